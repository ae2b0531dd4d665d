"""Two outputs of ``tests.reference.run`` beside each other: a table of what differs.

    python -m tests.reference.compare BASE HEAD

Exit code 0 where nothing differs, else 1.  Figures against stored ones are held to a relative 5e-3
(``off``), since another processor sums in another order; digests are equal or are not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

TOLERANCE = 5e-3
SHOWN = 60

Figures = Mapping[str, Mapping[str, float]]


def read(folder: Path, name: str) -> dict[str, dict[str, float]]:
    data: dict[str, dict[str, float]] = json.loads((folder / name).read_text(encoding="utf-8"))
    return data


def differing(base: Mapping[str, str], head: Mapping[str, str]) -> dict[str, str]:
    """Name to what is the matter: ``differs``, ``gone`` or ``new``."""
    names = sorted(base.keys() | head.keys())
    return {
        name: "gone" if name not in head else "new" if name not in base else "differs"
        for name in names
        if base.get(name) != head.get(name)
    }


def off(stored: Figures, now: Figures, tolerance: float = TOLERANCE) -> list[str]:
    """A line for each stored figure that is missing now or farther off than ``tolerance``."""
    lines = []
    for sae, figures in stored.items():
        for name, wanted in figures.items():
            value = now.get(sae, {}).get(name)
            if value is None or abs(value - wanted) > tolerance * max(abs(wanted), 1e-9):
                lines.append(f"{sae}: {name} is {value}, stored {wanted}")
    return lines


def table(base: Path, head: Path) -> list[str]:
    """Lines that say what differs; none where nothing does."""
    differences = differing(
        *(json.loads((side / "digests.json").read_text(encoding="utf-8")) for side in (base, head))
    )
    if not differences:
        return []
    parts = Counter("/".join(name.split("/")[:2]) for name in differences)
    lines = [f"{len(differences)} digests differ:", ""]
    lines += [f"{count:6d}  {part}" for part, count in sorted(parts.items())]
    lines += [
        "",
        *(f"{what:8s}{name}{_distance(base, head, name)}" for name, what in _first(differences)),
    ]
    if len(differences) > SHOWN:
        lines.append(f"... and {len(differences) - SHOWN} more")
    for name in ("figures.json", "scores.json"):
        lines += _figures(read(base, name), read(head, name))
    return lines


def _first(differences: dict[str, str]) -> list[tuple[str, str]]:
    """What is nearest to the cause comes first: weights, then what is made of them."""
    order = ("weights", "index", "rows", "served", "exported", "openapi")
    by_cause = sorted(differences.items(), key=lambda item: order.index(item[0].split("/")[0]))
    return by_cause[:SHOWN]


def _distance(base: Path, head: Path, name: str) -> str:
    """For a tensor, its largest difference."""
    part, _, rest = name.partition("/")
    sae, _, rest = rest.partition("/")
    file, _, tensor = rest.rpartition("/")
    if part != "weights" or not file.endswith(".safetensors") or "/" in file:
        return ""
    values = [load_file(side / "weights" / sae / file).get(tensor) for side in (base, head)]
    first, second = values
    if first is None or second is None or first.shape != second.shape:
        return "  (another shape)"
    return f"  (at most {np.abs(first.astype(float) - second).max():.3g})"


def _figures(base: Figures, head: Figures) -> list[str]:
    lines = []
    for sae in sorted(base.keys() | head.keys()):
        ours, theirs = base.get(sae, {}), head.get(sae, {})
        for name in sorted(ours.keys() | theirs.keys()):
            one, other = ours.get(name), theirs.get(name)
            if one != other:
                share = f"{other / one - 1:+.2%}" if one and other is not None else ""
                lines.append(f"{sae:20s} {name:28s} {one!s:>22} {other!s:>22} {share:>9}")
    head_line = f"{'SAE':20s} {'figure':28s} {'base':>22} {'head':>22}"
    return ["", head_line, *lines] if lines else []


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("head", type=Path)
    options = parser.parse_args(arguments)
    lines = table(options.base, options.head)
    print("\n".join(lines) if lines else "Nothing differs.")  # noqa: T201
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
