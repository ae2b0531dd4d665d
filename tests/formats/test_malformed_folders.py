"""Whatever a folder holds, opening it gives an SAE that works or a ``DataError``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from monosemy.errors import DataError
from monosemy.formats.load import open_sae
from monosemy.formats.saelens import load_sae, save_sae
from monosemy.formats.sparsify import load_sparsify, save_sparsify
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import BatchTopKSpec, GatedSpec, JumpReLUSpec, TopKSpec, TranscoderSpec

D, F, K = 6, 24, 4
SITE = "blocks.1.hook_mlp_out"


def write_saelens(spec: Any) -> Callable[[Path], None]:
    return lambda folder: save_sae(made(spec), folder, {"hook_name": SITE}, {})


def write_sparsify(folder: Path) -> None:
    save_sparsify(made(TranscoderSpec(d_sae=F, k=K, target_site=SITE, skip=True)), folder)


def write_dictionary(folder: Path) -> None:
    folder.mkdir()
    sae = made(TopKSpec(d_sae=F, k=K))
    tensors = {
        "encoder.weight": sae.W_enc.T.contiguous(),
        "encoder.bias": sae.b_enc,
        "decoder.weight": sae.W_dec.T.contiguous(),
        "b_dec": sae.b_dec,
        "k": torch.tensor(K, dtype=torch.int32),
        "threshold": torch.tensor(0.5),
    }
    save_file(tensors, folder / "ae.safetensors")
    trainer = {"dict_class": "BatchTopKSAE", "k": K, "lm_name": "tiny", "layer": 3}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))


def made(spec: Any) -> SAE:
    sae = create(spec, D)
    sae.initialise(torch.Generator().manual_seed(0))
    return sae.requires_grad_(False)


WRITERS: dict[str, Callable[[Path], None]] = {
    "topk": write_saelens(TopKSpec(d_sae=F, k=K)),
    "batchtopk": write_saelens(BatchTopKSpec(d_sae=F, k=K)),
    "gated": write_saelens(GatedSpec(d_sae=F)),
    "jumprelu": write_saelens(JumpReLUSpec(d_sae=F)),
    "own": write_saelens(TopKSpec(d_sae=F, k=K, ista_steps=1)),
    "sparsify": write_sparsify,
    "dictionary": write_dictionary,
}

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.integers(10**9, 10**40),
    st.floats(),
    st.sampled_from(["", "topk", "jumprelu", "gated", "monosemy.topk", "x" * 300]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from(["a", "sae_lens_version"]), st.sampled_from([6, "6.0", "x"])),
)


@st.composite
def edits(draw: st.DrawFn) -> Callable[[dict[str, Any]], None]:
    """One or two keys dropped or given another value."""
    changes = [
        (draw(st.integers(0, 40)), draw(st.booleans()), draw(VALUES))
        for _ in range(draw(st.integers(1, 2)))
    ]

    def edit(data: dict[str, Any]) -> None:
        for place, drop, value in changes:
            holder = data
            if isinstance(data.get("trainer"), dict) and place % 5:
                holder = data["trainer"]
            if not holder:
                continue
            key = sorted(holder)[place % len(holder)]
            if drop:
                del holder[key]
            else:
                holder[key] = value

    return edit


def survives(folder: Path) -> None:
    """Opens, and then computes; or is refused."""
    try:
        sae, metadata, *_ = open_sae(folder)
    except DataError as error:
        assert str(error).strip()
        return
    assert isinstance(metadata, dict)
    assert sae(torch.randn(3, sae.d_in)).shape == (3, sae.d_out)
    assert not any(parameter.requires_grad for parameter in sae.parameters())


@pytest.mark.parametrize("kind", sorted(WRITERS))
@settings(max_examples=40, deadline=None)
@given(edit=edits())
def test_an_edited_configuration(kind: str, edit: Callable[[dict[str, Any]], None]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sae"
        WRITERS[kind](folder)
        file = next(f for f in (folder / "cfg.json", folder / "config.json") if f.is_file())
        data = json.loads(file.read_text())
        edit(data)
        file.write_text(json.dumps(data))
        survives(folder)


@pytest.mark.parametrize("kind", sorted(WRITERS))
@settings(max_examples=40, deadline=None)
@given(
    place=st.integers(0, 20),
    shape=st.lists(st.sampled_from([0, 1, D, F]), max_size=3),
    how=st.sampled_from(["reshape", "drop", "rename", "nan", "int", "half"]),
)
def test_edited_tensors(kind: str, place: int, shape: list[int], how: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sae"
        WRITERS[kind](folder)
        files = sorted(folder.glob("*.safetensors"))
        file = files[place % len(files)]
        tensors = load_file(file)
        name = sorted(tensors)[place % len(tensors)]
        value = tensors.pop(name)
        if how == "reshape":
            tensors[name] = torch.rand(shape)
        elif how == "rename":
            tensors["other"] = value
        elif how == "nan":
            tensors[name] = torch.full(value.shape, torch.nan)
        elif how in ("int", "half"):
            tensors[name] = value.to(torch.int32 if how == "int" else torch.bfloat16)
        save_file(tensors, file)
        survives(folder)


@pytest.mark.parametrize("kind", sorted(WRITERS))
@settings(max_examples=25, deadline=None)
@given(place=st.integers(0, 20), cut=st.integers(0, 400), junk=st.binary(max_size=12))
def test_damaged_files(kind: str, place: int, cut: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "sae"
        WRITERS[kind](folder)
        files = sorted(folder.iterdir())
        file = files[place % len(files)]
        content = file.read_bytes()
        file.write_bytes(content[: cut % len(content)] + junk)
        survives(folder)


def test_a_claim_of_a_huge_size_allocates_nothing(tmp_path: Path) -> None:
    """Ten thousand gigabytes of zeros would be asked for before the comparison."""
    WRITERS["topk"](tmp_path / "a")
    config = json.loads((tmp_path / "a" / "cfg.json").read_text())
    (tmp_path / "a" / "cfg.json").write_text(json.dumps({**config, "d_sae": 10**9, "d_in": 10**6}))
    with pytest.raises(DataError, match="does not fit"):
        load_sae(tmp_path / "a")
    WRITERS["sparsify"](tmp_path / "b")
    config = json.loads((tmp_path / "b" / "cfg.json").read_text())
    (tmp_path / "b" / "cfg.json").write_text(json.dumps({**config, "num_latents": 10**9}))
    with pytest.raises(DataError, match="does not fit"):
        load_sparsify(tmp_path / "b")
