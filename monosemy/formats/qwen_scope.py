"""Qwen-Scope: TopK SAEs of the residual stream, a file for each layer.

The files of the release, ``layer{n}.sae.pt``, are pickles and are never read.  Their owner turns
them into ``layer{n}.sae.safetensors`` once.  How many latents fire stands in the repository's
name: ``SAE-Res-Qwen3-1.7B-Base-W32K-L0_50``.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.folder import faults_of, float32, read_tensors
from monosemy.formats.opened import OpenedSAE, Wanted, hooked
from monosemy.formats.transcoder_parts import topk

NAME = "qwen_scope"
_FILE = re.compile(r"layer(\d+)\.sae\.(pt|safetensors)")
_NAMED = re.compile(r"SAE-Res-(?P<model>.+)-W\d+K-L0_(?P<k>\d{1,6})")

CONVERT = (
    'Convert them once, in their folder: python -c "import glob, torch, safetensors.torch as s; '
    "[s.save_file({n: t.contiguous() for n, t in torch.load(f, map_location='cpu', "
    "weights_only=True).items()}, f[:-2] + 'safetensors') for f in glob.glob('layer*.sae.pt')]\""
)


def holds(folder: Path) -> bool:
    return any(_FILE.fullmatch(path.name) for path in folder.iterdir())


def layers_in(folder: Path) -> list[int]:
    """Those whose weights can be read."""
    names = (_FILE.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name is not None and name[2] != "pt")


def open_folder(folder: Path, wanted: Wanted) -> OpenedSAE:
    """The SAE of the layer that is wanted.  ``DataError`` where none is named, where the weights
    are pickles still, and where no folder's name says how many latents fire."""
    there = layers_in(folder)
    if not there:
        raise DataError(f"{folder} holds pickled weights, which can run code.", CONVERT)
    if wanted.layer not in there:
        raise DataError(
            f"{folder} holds SAEs of the layers {there[0]} to {there[-1]}.",
            "Name the layers (layers=0-11), or the site of one.",
        )
    named = next((name for name in map(_NAMED.search, folder.resolve().parts) if name), None)
    if named is None:
        raise DataError(
            f"{folder}: no name of a folder says how many latents fire.",
            "Call it as its repository is called: SAE-Res-...-L0_50.",
        )
    tensors = float32(read_tensors(folder / f"layer{wanted.layer}.sae.safetensors"))
    with faults_of(folder):
        return _built(tensors, wanted.layer, int(named["k"]), named["model"])


def _built(tensors: dict[str, Tensor], layer: int | None, k: int, model: str) -> OpenedSAE:
    weights = {name: tensors[name].T for name in ("W_enc", "W_dec")}
    weights |= {name: tensors[name] for name in ("b_enc", "b_dec")}
    sae = topk(weights, k, transcodes=False)
    places = hooked(f"blocks.{layer}.hook_resid_post", model=f"Qwen/{model}")
    return OpenedSAE(sae, places, NAME)
