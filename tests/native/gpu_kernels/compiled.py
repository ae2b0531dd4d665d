"""Compiles every kernel for an H100 or H200 (sm_90) as the sizes we aim at would launch it, on a
machine without either, and prints what each takes as JSON: run by ``test_triton_kernels.py``.

Triton's own compiler goes all the way to machine code; only loading it needs a card.  Pointers and
widths are declared divisible by 16, as Triton finds them to be at launch.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as compiled

from monosemy.native.gpu import largest, rows

_TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"

_POINTERS = {
    "bias": "*fp32", "maxima": "*i32", "selected": "*i32", "values": "*fp32", "indices": "*i64",
    "members": "*i64", "weights": "*fp32", "out": "*fp32", "starts": "*i64", "bags": "*i32",
    "partial": "*fp32", "partial_totals": "*fp32", "bag_totals": "*fp32", "x": "*fp32",
}  # fmt: skip


def resources(kernel: Any, rows_are: str, warps: int, **shape: Any) -> dict[str, Any]:
    """Registers of a thread, bytes of stack and of local memory (where registers are spilled to) of
    a thread, bytes of shared memory of a program, and how it loads."""
    types = {**_POINTERS, "pre": rows_are, "rows": rows_are}
    signature = {
        name: "constexpr" if name in shape else types.get(name, "i32") for name in kernel.arg_names
    }
    aligned = [("tt.divisibility", 16)]
    attributes = {
        (place,): [list(pair) for pair in aligned]
        for place, name in enumerate(kernel.arg_names)
        if name not in shape
    }
    source = ASTSource(kernel, signature, constexprs=shape, attrs=attributes)
    done = compiled(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(done.asm["cubin"])
        process = subprocess.run(
            [_TOOL, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    used = {
        name: int(re.search(rf"{name}:(\d+)", process)[1]) for name in ("REG", "STACK", "LOCAL")
    }  # type: ignore[index]
    loads = set(re.findall(r"ld\.global\S*", done.asm["ptx"]))
    return {
        "kernel": kernel.__name__, "rows": rows_are, "warps": warps, "shape": shape,
        **{name.lower(): number for name, number in used.items()},
        "shared": done.metadata.shared,
        "flushes": ".ftz" in done.asm["ptx"],
        "wide_loads": any(".v4" in load for load in loads),
    }  # fmt: skip


def for_top_k(width: int, k: int, rows_are: str) -> list[dict[str, Any]]:
    size = largest.group_size(width, k)
    assert size is not None
    groups = triton.next_power_of_2(width // size)
    tile = {"ROWS": largest._ROWS, "GROUPS": largest._TILE // size, "G": size}
    entries = triton.next_power_of_2(k)
    warps = largest.warps(entries * size)
    return [
        resources(largest.group_maxima_kernel, rows_are, 4, **tile),
        resources(largest.choose_groups_kernel, rows_are, largest.warps(groups), M=groups),
        resources(largest.choose_entries_kernel, rows_are, warps, M=entries, G=size),
    ]


def for_rows(d: int, rows_are: str) -> list[dict[str, Any]]:
    columns = rows.columns_at_once(d)
    bags = {"CHUNK": rows._CHUNK, "J": 8, "D": columns}
    return [
        resources(rows.weighted_sums_kernel, rows_are, 4, J=16, D=columns),
        resources(rows.chunk_sums_kernel, rows_are, 4, **bags),
        resources(rows.bag_sums_kernel, rows_are, 4, **bags),
        resources(rows.products_kernel, rows_are, 4, RAGGED=False, J=16, D=columns),
        resources(rows.products_kernel, rows_are, 4, RAGGED=True, J=8, D=columns),
    ]


def main() -> None:
    compiled = []
    for rows_are in ("*fp32", "*bf16"):
        for width, k in ((65_536, 64), (131_072, 64), (65_536, 256)):
            compiled += for_top_k(width, k, rows_are)
        compiled += for_rows(2_304, rows_are)
    json.dump(compiled, sys.stdout)


if __name__ == "__main__":
    main()
