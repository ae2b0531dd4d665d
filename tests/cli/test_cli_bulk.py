"""``sae upload`` and ``export`` against the served API."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from service.cli.main import app
from tests.support.hostile import CONFIG, SOUND, safetensors, zipped
from tests.support.library_rows import Library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_a_folder_is_uploaded_and_can_be_imported(tmp_path: Path) -> None:
    folder = tmp_path / "layers.3"
    folder.mkdir()
    (folder / "cfg.json").write_bytes(CONFIG)
    (folder / "sae.safetensors").write_bytes(safetensors())
    (folder / "state.pt").write_bytes(b"a pickle")
    output = call("sae", "upload", str(folder))
    assert "Not sent: state.pt" in output
    source = output.split()[-1]
    assert source.startswith("upload:")
    imported = ("run", "submit", "--kind", "import", "--set", f"source={source}")
    run = call(*imported, "--set", "site=blocks.3.hook_mlp_out").strip()
    call("run", "cancel", run)
    printed = json.loads(call("sae", "upload", str(folder), "--json").partition("\n")[2])
    assert [each["name"] for each in printed["files"]] == [
        "layers.3/cfg.json",
        "layers.3/sae.safetensors",
    ]


def test_an_archive_is_uploaded(tmp_path: Path) -> None:
    (tmp_path / "sae.zip").write_bytes(zipped(SOUND))
    printed = json.loads(call("sae", "upload", str(tmp_path / "sae.zip"), "--json"))
    assert {each["name"] for each in printed["files"]} == set(SOUND)
    (tmp_path / "evil.zip").write_bytes(zipped({"../a.json": b"{}"}))
    assert "plain relative path" in call("sae", "upload", str(tmp_path / "evil.zip"), code=2)


def test_a_folder_without_weights_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "ae.pt").write_bytes(b"")
    assert "no .safetensors or .npz file" in call("sae", "upload", str(tmp_path), code=1)
    assert "no folder" in call("sae", "upload", str(tmp_path / "nothing"), code=1)


def test_features_are_exported(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    printed = json.loads(call("export", "features", "demo", str(file), "--json"))
    assert printed["bytes"] == file.stat().st_size
    assert pq.read_table(file).column("index").to_pylist() == list(range(library.features))
    call("export", "features", "demo", str(tmp_path / "out.arrow"), "--scorer", "fuzzing")
    with pa.ipc.open_stream(tmp_path / "out.arrow") as reader:
        assert reader.read_all().num_rows == library.features


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    assert "no SAE 'nothing'" in call("export", "features", "nothing", str(file), code=4)
    call("export", "activations", "demo", str(file), "--feature", "1", code=4)
    assert "end the name" in call("export", "features", "demo", str(tmp_path / "a.csv"), code=2)
    assert [path.name for path in tmp_path.iterdir()] == []
    file.write_bytes(b"mine")
    assert "there already" in call("export", "features", "demo", str(file), code=1)
    assert file.read_bytes() == b"mine"


def test_features_are_exported_as_pages(library: Library, tmp_path: Path) -> None:
    one, several = tmp_path / "7.html", tmp_path / "all.html"
    told = json.loads(call("feature", "export", "demo", str(one), "--feature", "7", "--json"))
    assert told["bytes"] == one.stat().st_size
    assert "Feature 7 of demo" in one.read_text() and "<script" not in one.read_text()
    call("feature", "export", "demo", str(several), "--sort", "density", "--order", "desc")
    assert several.read_text().count("<h2>Feature ") == library.features
    assert "there already" in call("feature", "export", "demo", str(one), code=1)
    gone = tmp_path / "none.html"
    assert "no feature '99'" in call(
        "feature", "export", "demo", str(gone), "--feature", "99", code=4
    )
    assert not gone.exists()


def test_an_address_for_embedding_is_made() -> None:
    asked = ("feature", "embed", "demo", "7", "--part", "examples", "--examples", "3")
    told = json.loads(call(*asked, "--theme", "dark", "--json"))
    assert (
        told["path"].startswith("/embed/saes/") and "parts=examples&n=3&theme=dark" in told["path"]
    )
    assert told["address"].endswith(told["path"]) and told["expires_at"] is None
    assert call(*asked).strip().startswith("http")
    assert "parts" in call("feature", "embed", "demo", "7", "--part", "everything", code=2)
