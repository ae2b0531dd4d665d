"""Compares two commits by the reference (``make reference BASE=<commit> HEAD=<commit>``).

Both are run by the harness of this checkout, so that commits from before it can be compared; only
``monosemy``, ``service``, ``workers`` and ``migrations`` are the commit's own.  HEAD left out is
the working tree.  Exit code 0 where nothing differs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.reference import compare

CHECKOUT = Path(__file__).resolve().parents[2]
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
"""Sums are taken in one order, whatever the caller's environment."""
_LIBRARY = ("monosemy", "service", "workers", "migrations", "pyproject.toml")


def library_of(commit: str | None, folder: Path) -> Path:
    """A folder with the library of ``commit`` (None: the working tree) and this harness."""
    folder.mkdir()
    if commit is None:
        for name in _LIBRARY:
            (folder / name).symlink_to(CHECKOUT / name)
    else:
        packed = folder / "library.tar"
        archive = ["git", "-C", str(CHECKOUT), "archive", "-o", str(packed), commit, *_LIBRARY]
        if subprocess.run(archive).returncode:
            raise SystemExit(f"{commit} is no commit of {CHECKOUT}.")
        subprocess.run(["tar", "-xf", str(packed), "-C", str(folder)], check=True)
        packed.unlink()
    (folder / "tests").mkdir()
    shutil.copy(CHECKOUT / "tests" / "__init__.py", folder / "tests")
    for name in ("support", "reference"):
        shutil.copytree(CHECKOUT / "tests" / name, folder / "tests" / name)
    return folder


def run(library: Path, out: Path, work: Path, *options: str) -> None:
    """Runs the reference in a process of its own; ``SystemExit`` if it fails."""
    command = [sys.executable, "-m", "tests.reference.run", str(out), "--work", str(work), *options]
    inherited = {n: v for n, v in os.environ.items() if not n.startswith("MONOSEMY_")}
    environment = {
        **inherited,
        **_ONE_THREAD,
        # The stub explains by a hash: what a judge's test would find is no part of the reference.
        "MONOSEMY_JUDGE_TEST": "skip",
        "PYTHONPATH": str(library),
        # A hash seed of its own each: an order that depends on it is found out.
        "PYTHONHASHSEED": str(len(out.name)),
    }
    ended = subprocess.run(command, cwd=library, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"The reference failed in {library}:\n{ended.stderr[-4000:]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", help="a commit")
    parser.add_argument("head", nargs="?", help="a commit; the working tree if left out")
    parser.add_argument("--small", action="store_true", help="two architectures, fewer kinds")
    parser.add_argument("--keep", type=Path, help="where outputs are kept; else thrown away")
    options = parser.parse_args(arguments)
    more = ["--small"] if options.small else []
    with tempfile.TemporaryDirectory(prefix="reference-") as name:
        place = Path(name)
        kept = options.keep or place
        sides = (("base", options.base), ("the-head", options.head or None))
        for side, commit in sides:
            library = library_of(commit, place / f"library-{side}")
            run(library, kept / side, place / "work", *more)
        return compare.main([str(kept / side) for side, _ in sides])


if __name__ == "__main__":
    sys.exit(main())
