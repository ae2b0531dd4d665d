"""The compiled library: made once, found again, and done without where it cannot be made."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from monosemy.native import build

pytestmark = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MONOSEMY_NATIVE", "1")
    monkeypatch.setattr(build, "_load", build._load.__wrapped__)
    return tmp_path / "cache" / "monosemy" / "native"


def write(tmp_path: Path, answer: int) -> Path:
    source = tmp_path / "sum.c"
    source.write_text(f"int answer(void) {{ return {answer}; }}\n")
    return source


def test_a_library_is_compiled_once_and_anew_when_the_source_changes(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build.compiled(write(tmp_path, 41))
    assert ctypes.CDLL(str(first)).answer() == 41
    calls = []
    compile_ = build._compile
    monkeypatch.setattr(build, "_compile", lambda *given: calls.append(given) or compile_(*given))
    assert build.compiled(write(tmp_path, 41)) == first and not calls
    second = build.compiled(write(tmp_path, 42))
    assert second != first and len(calls) == 1
    assert ctypes.CDLL(str(second)).answer() == 42
    assert sorted(own_cache.iterdir()) == sorted([first, second])  # nothing half-made stays


def test_the_name_tells_processors_and_compilers_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {build.compiled(write(tmp_path, 1))}
    monkeypatch.setattr(build, "_processor", lambda: b"another")
    names.add(build.compiled(write(tmp_path, 1)))
    monkeypatch.setattr(build, "_version", lambda compiler: b"newer")
    names.add(build.compiled(write(tmp_path, 1)))
    assert len(names) == 3


def test_source_that_does_not_compile_leaves_nothing(tmp_path: Path, own_cache: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int answer(void) { return nothing_of_this_name; }\n")
    with pytest.raises(OSError, match="failed"):
        build.compiled(source)
    assert not list(own_cache.iterdir())


def test_flags_that_a_compiler_does_not_know_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_EXTRAS", (["-fno-such-flag-anywhere"], []))
    assert ctypes.CDLL(str(build.compiled(write(tmp_path, 7)))).answer() == 7


def test_without_a_compiler_there_is_none_and_a_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level("INFO", logger=build.__name__):
        assert build.library("pursuit") is None
    assert "no C compiler" in caplog.text


def test_a_compiler_that_hangs_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*given: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("cc", 120)

    monkeypatch.setattr(subprocess, "run", hang)
    assert build.library("pursuit") is None


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.library("pursuit") is not None
    monkeypatch.setenv("MONOSEMY_NATIVE", "0")
    assert build.library("pursuit") is None


def test_no_home_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(build.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    assert build.compiled(write(tmp_path, 3)).parent == tmp_path
