"""Which folders runs may read: by the words of a path at the API, by what is there in a worker."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from monosemy.errors import DataError
from monosemy.specs import ModelSpec, parse_spec
from monosemy.workspace import Workspace
from service.kit.errors import InvalidRequest
from service.runs.readable_paths import path_refused
from service.runs.sources import check_path, check_paths, check_sources
from service.settings import Settings
from workers.hosts import HostCache

OWN = (
    "artifacts/uploads/{upload}",
    "artifacts/uploads/{upload}/tokens.txt",
    "artifacts/uploads/incoming-{upload}/folder",
    "artifacts/runs/x",
    "artifacts/.trash/x",
    "artifacts/text/x",
    "artifacts/activations/x",
    "artifacts/saes/x",
    "artifacts",
    "logs",
    "logs/api.txt",
    "postgres",
    "postgres/base/1.txt",
    "valkey/dump.txt",
    "stack.json",
)
"""Below the home: the server's own."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for folder in ("home", "texts", "elsewhere"):
        (tmp_path / folder).mkdir()
    return Settings(
        home=tmp_path / "home",
        require_keys=True,
        secret=SecretStr("s" * 32),
        folders=f"{tmp_path}/texts",
    )


@pytest.fixture
def open_mode(settings: Settings) -> Settings:
    return settings.model_copy(update={"require_keys": False, "folders": ""})


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("{root}/texts/a.txt", True),
        ("{root}/texts", True),
        ("{root}/home/models/x", True),
        ("{root}/home/texts/a.jsonl", True),
        ("{root}/home/saes/x", True),
        ("{root}/home/artifacts/models/x-0123", False),
        ("{root}/texts/../texts/a.txt", True),
        ("smollm2-135m-instruct", True),
        ("wikipedia-sample", True),
        ("owner/name", True),  # the hub's business
        ("{root}/home", False),
        ("{root}/home/more", False),
        ("{root}/home/artifacts/saes/x", False),
        ("{root}/elsewhere/a.txt", False),
        ("{root}/texts/../elsewhere/a.txt", False),
        ("{root}/texts-of-others/a.txt", False),
        ("/etc/passwd", False),
        ("~/notes.txt", False),
        ("~nobody-of-that-name/x", False),
        ("../../etc", False),
        ("notes.txt", False),
    ],
)
def test_by_the_words_of_the_path(
    settings: Settings, tmp_path: Path, name: str, allowed: bool
) -> None:
    assert (path_refused(settings, name.format(root=tmp_path)) is None) is allowed


def test_open_mode_reads_anything_but_the_servers_own(
    settings: Settings, open_mode: Settings, tmp_path: Path
) -> None:
    assert path_refused(open_mode, "/etc/passwd") is None
    assert path_refused(open_mode, f"{tmp_path}/home/notes.txt") is None
    assert path_refused(open_mode, f"{tmp_path}/home/artifacts/models/x-0123") is None
    assert path_refused(open_mode, f"{tmp_path}/home/artifacts/saes/x", sae=True) is None
    named = settings.model_copy(update={"require_keys": False})
    assert path_refused(named, "/etc/passwd") is not None


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("inside", OWN)
def test_the_servers_own_is_no_model_and_no_text(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, keys: bool
) -> None:
    """By whatever path: at the API by its words, in a worker by what is there."""
    everything = {"require_keys": keys, "folders": str(tmp_path)}
    settings = settings.model_copy(update=everything)
    inside = inside.format(upload=uuid.uuid4())
    place = tmp_path / "home" / inside
    (place if not place.suffix else place.parent).mkdir(parents=True, exist_ok=True)
    if place.suffix:
        place.write_text("{}")
    words = [
        f"{place}",
        f"{tmp_path}/texts/../home/{inside}",
        f"{tmp_path}/home/models/../{inside}",
        f"{tmp_path}//home/./{inside}/",
        f"{tmp_path}/home/{inside.upper()}",
        f"{tmp_path}/HOME/{inside}",
    ]
    for name in words:
        assert path_refused(settings, name) is not None, name
    link, loop = tmp_path / "texts" / "link", tmp_path / "texts" / "loop"
    link.symlink_to(place)
    (tmp_path / "texts" / "above").symlink_to(tmp_path / "home")
    loop.symlink_to(loop)
    (tmp_path / "texts" / "model").mkdir()
    (tmp_path / "texts" / "model" / "model.safetensors").symlink_to(place)
    monkeypatch.chdir(place if place.is_dir() else place.parent)
    there = [
        str(place),
        str(link),
        f"{tmp_path}/texts/above/{inside}",
        f"{tmp_path}/texts/model",
        f"/proc/self/root{place}",
        f"/proc/self/cwd/{'' if place.is_dir() else place.name}",
        f"./{'' if place.is_dir() else place.name}",
    ]
    for name in there:
        for spec in (
            {"kind": "train", "model": {"name": name}},
            {"kind": "index", "sae": "x", "text": {"source": name}},
        ):
            with pytest.raises(DataError, match="server"):
                check_paths(settings, parse_spec(spec))
    with pytest.raises(DataError, match=r"cannot be followed|server"):
        check_path(settings, str(loop))


@pytest.mark.parametrize("name", ["upload:{id}", "UPLOAD:{id}", "upload:{id}:folder", "upload:"])
def test_uploads_are_for_imports_alone(settings: Settings, name: str) -> None:
    name = name.format(id=uuid.uuid4())
    specs: list[dict[str, Any]] = [
        {"kind": "train", "model": {"name": name}},
        {"kind": "pipeline", "text": {"source": name}},
        {"kind": "sweep", "model": {"name": name}},
        {"kind": "index", "sae": "x", "text": {"source": name}},
        {"kind": "import", "source": "saes/x", "model": {"name": name}},
    ]
    for spec in specs:
        with pytest.raises(InvalidRequest, match="can be imported as an SAE"):
            check_sources(settings, parse_spec(spec))


@pytest.mark.parametrize("scheme", ["file://", "FILE://", "file:///", "http://", "//"])
def test_an_address_is_no_path(open_mode: Settings, tmp_path: Path, scheme: str) -> None:
    spec = parse_spec({"kind": "train", "model": {"name": f"{scheme}{tmp_path}/texts"}})
    with pytest.raises(InvalidRequest, match="an address is never fetched"):
        check_sources(open_mode, spec)


def test_an_upload_is_imported_by_its_name_and_not_by_its_path(open_mode: Settings) -> None:
    for name in (f"uploads/{uuid.uuid4()}", "runs/x", ".trash/y"):
        path = open_mode.artifacts / name
        path.mkdir(parents=True)
        spec = parse_spec({"kind": "import", "source": str(path)})
        with pytest.raises(InvalidRequest, match="upload:ID"):
            check_sources(open_mode, spec)
        with pytest.raises(DataError, match="upload:ID"):
            check_paths(open_mode, spec)


def test_the_same_folder_by_another_name_is_the_same(open_mode: Settings, tmp_path: Path) -> None:
    """As where a file system does not tell cases apart, or is mounted twice: by inode."""
    uploads = open_mode.artifacts / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "tokens.txt").write_text("x")
    moved = open_mode.model_copy(update={"home": tmp_path / "texts" / "link" / "home"})
    (tmp_path / "texts" / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="server's own"):
        check_path(moved, str(uploads / "tokens.txt"))


def test_a_host_model_is_looked_at_wherever_its_name_comes_from(open_mode: Settings) -> None:
    """An SAE's own record of its model, say."""
    place = open_mode.artifacts / "uploads" / "x"
    place.mkdir(parents=True)
    hosts = HostCache(
        Workspace(open_mode.artifacts), check=lambda name: check_path(open_mode, name)
    )
    with pytest.raises(DataError, match="server's own"):
        hosts.load(ModelSpec(name=str(place)))


def test_a_link_that_leads_elsewhere_is_seen_by_the_worker(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "secret.txt").write_text("secret")
    link = tmp_path / "texts" / "link.txt"
    link.symlink_to(tmp_path / "elsewhere" / "secret.txt")
    assert path_refused(settings, str(link)) is None
    spec = parse_spec({"kind": "train", "text": {"source": str(link)}})
    with pytest.raises(DataError, match="MONOSEMY_FOLDERS"):
        check_paths(settings, spec)
    (tmp_path / "texts" / "mine.txt").write_text("mine")
    check_paths(
        settings,
        parse_spec({"kind": "train", "text": {"source": str(tmp_path / "texts" / "mine.txt")}}),
    )
    # A model whose weights are a link: as the hub's cache has them, but out of the folders.
    (tmp_path / "texts" / "model").mkdir()
    config = tmp_path / "texts" / "model" / "config.json"
    config.symlink_to(tmp_path / "elsewhere" / "secret.txt")
    with pytest.raises(DataError, match="MONOSEMY_FOLDERS"):
        check_path(settings, str(tmp_path / "texts" / "model"))
    # What looks like a repository of the hub and is a folder where the worker runs.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere" / "model").mkdir()
    with pytest.raises(DataError, match="MONOSEMY_FOLDERS"):
        check_paths(settings, parse_spec({"kind": "train", "model": {"name": "elsewhere/model"}}))


def test_a_relative_folder_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no absolute path"):
        Settings(home=tmp_path, folders="texts")
