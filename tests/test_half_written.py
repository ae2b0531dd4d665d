"""No error names what only a program has named."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monosemy.half_written import faults_naming
from monosemy.interchange.files import write_bytes
from service.backup import backup
from service.cli import exported, interchange
from service.cli.main import app


def test_the_file_that_was_meant_is_named(tmp_path: Path) -> None:
    target, half = tmp_path / "backup", tmp_path / ".backup.7.part"
    half.write_text("a file")
    with pytest.raises(NotADirectoryError) as raised, faults_naming(target, half):
        (half / "database.dump").open("wb")
    assert raised.value.filename == str(target / "database.dump")
    assert raised.value.errno == errno.ENOTDIR
    with pytest.raises(OSError, match="missing") as raised, faults_naming(target, half):
        half.rename(tmp_path / "missing" / "x")
    assert (raised.value.filename, raised.value.filename2) == (
        str(target),
        str(tmp_path / "missing" / "x"),
    )
    with pytest.raises(BrokenPipeError), faults_naming(target, half):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    with pytest.raises(OSError, match="no number"), faults_naming(target, half):
        raise OSError("no number")


def test_so_it_is_where_a_whole_tree_is_copied(tmp_path: Path) -> None:
    source, target, half = tmp_path / "a", tmp_path / "b", tmp_path / "b.part"
    source.mkdir()
    (source / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError) as raised, faults_naming(target, half):
        shutil.copytree(source, half)
    assert not isinstance(raised.value, shutil.Error)
    assert raised.value.errno == errno.ENOENT and raised.value.filename == str(source / "link")


def _no_folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "new"


def test_writers_of_the_command_line_name_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = _no_folder(tmp_path)
    monkeypatch.setattr(backup, "_ask", lambda *_: [(1,)])
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", "postgresql://a@127.0.0.1:9/x")
    ended = CliRunner().invoke(app, ["backup", str(target)])
    assert ended.exit_code == 1
    assert ended.stderr.startswith(f"{target}: ") and ".part" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    (tmp_path / "sae").mkdir()
    for write in (
        lambda: exported._copy(tmp_path / "sae", target),
        lambda: interchange._whole(target).__enter__(),
        lambda: write_bytes(tmp_path / "file" / "x", b""),
    ):
        with pytest.raises(OSError) as raised:
            write()
        assert ".part" not in str(raised.value) and str(tmp_path / "file") in str(raised.value)
