"""Compiles one C file into a library of the user's cache folder and loads it.

The library's name holds a hash of the source, the compiler and what the processor can do, so that a
shared home serves different machines and nothing stale is ever loaded.  ``MONOSEMY_NATIVE=0`` turns
all of it off; without a compiler every kernel has a form in tensor operations.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)

_FLAGS = [
    *("-O3", "-shared", "-fPIC", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math"),
    *("-fassociative-math", "-fno-signed-zeros", "-ffinite-math-only"),
]
_EXTRAS: tuple[list[str], ...] = (
    ["-march=native", "-mprefer-vector-width=512", "-fopenmp"],
    ["-march=native", "-fopenmp"],
    ["-march=native"],
    [],
)
"""Tried in turn: not every compiler knows every flag, nor has every one OpenMP."""


def library(name: str) -> ctypes.CDLL | None:
    """The compiled ``monosemy/native/<name>.c``; None, the reason logged once, if it cannot be.

    Compiles on the first call on a machine (about a second), later only loads.
    """
    if os.environ.get("MONOSEMY_NATIVE", "1") == "0":
        return None
    return _load(name)


@functools.cache
def _load(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(compiled(Path(__file__).with_name(f"{name}.c"))))
    except (OSError, subprocess.SubprocessError) as error:
        _log.info("No native kernels for %s, tensor operations are used instead: %s", name, error)
        return None


def compiled(source: Path) -> Path:
    """The library made from ``source``, now or earlier.

    Raises ``OSError`` without a compiler or a place to write, ``subprocess.SubprocessError`` when
    the compiler fails or takes longer than two minutes.
    """
    compiler = _compiler()
    parts = [
        source.read_bytes(),
        _version(compiler),
        _processor(),
        repr((_FLAGS, _EXTRAS)).encode(),
    ]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    target = _folder() / f"{source.stem}-{key}.so"
    if not target.exists():
        handle, partial = tempfile.mkstemp(suffix=".so", dir=target.parent)
        os.close(handle)
        try:
            _compile(compiler, source, partial)
            Path(partial).replace(target)  # atomic: compiling twice at once does no harm
        finally:
            Path(partial).unlink(missing_ok=True)
    return target


def _compile(compiler: str, source: Path, target: str) -> None:
    for extras in _EXTRAS:
        command = [compiler, *_FLAGS, *extras, str(source), "-o", target, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            return
    reason = done.stderr.strip().splitlines() or ["no message"]
    raise OSError(f"{compiler} failed: {reason[0]}")


def _compiler() -> str:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise OSError("there is no C compiler (cc, gcc or clang)")


def _version(compiler: str) -> bytes:
    done = subprocess.run([compiler, "--version"], capture_output=True, timeout=30, check=False)
    return compiler.encode() + done.stdout


def _processor() -> bytes:
    """What distinguishes processors that cannot run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
        named = {line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}
        return b"\n".join(sorted(named)) + platform.machine().encode()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.platform()}".encode()


def _folder() -> Path:
    """A folder that only this user writes to; a new temporary one where there is no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = (Path(base) if base else Path.home() / ".cache") / "monosemy" / "native"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="monosemy-native-"))
