"""Which folders runs may read: by the words of a path at the API, by what is there in a worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from monosemy.errors import DataError
from monosemy.specs import parse_spec
from service.runs.sources import check_paths, path_refused
from service.settings import Settings


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


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("{root}/texts/a.txt", True),
        ("{root}/texts", True),
        ("{root}/home/artifacts/saes/x", True),
        ("{root}/texts/../texts/a.txt", True),
        ("smollm2-135m-instruct", True),
        ("wikipedia-sample", True),
        ("owner/name", True),  # the hub's business
        ("upload:0123", True),
        ("{root}/elsewhere/a.txt", False),
        ("{root}/texts/../elsewhere/a.txt", False),
        ("{root}/texts-of-others/a.txt", False),
        ("/etc/passwd", False),
        ("~/notes.txt", False),
        ("../../etc", False),
        ("notes.txt", False),
    ],
)
def test_by_the_words_of_the_path(
    settings: Settings, tmp_path: Path, name: str, allowed: bool
) -> None:
    assert (path_refused(settings, name.format(root=tmp_path)) is None) is allowed


def test_open_mode_reads_anything(settings: Settings) -> None:
    open_mode = settings.model_copy(update={"require_keys": False, "folders": ""})
    assert path_refused(open_mode, "/etc/passwd") is None
    named = settings.model_copy(update={"require_keys": False})
    assert path_refused(named, "/etc/passwd") is not None


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
    # What looks like a repository of the hub and is a folder where the worker runs.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere" / "model").mkdir()
    with pytest.raises(DataError, match="MONOSEMY_FOLDERS"):
        check_paths(settings, parse_spec({"kind": "train", "model": {"name": "elsewhere/model"}}))


def test_a_relative_folder_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no absolute path"):
        Settings(home=tmp_path, folders="texts")
