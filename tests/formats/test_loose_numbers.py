"""Configurations whose numbers, nulls and extra keys are written as other tools may write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.errors import DataError
from monosemy.formats.dictionary_learning import dictionary_metadata
from monosemy.formats.folder import plain, read_json, write_json
from monosemy.formats.load import open_sae
from monosemy.formats.saelens import imported, load_sae, read_metadata, save_sae
from monosemy.formats.sparsify import load_sparsify, save_sparsify
from monosemy.saes.topk import TopKSAE
from monosemy.specs import TopKSpec

D, F, K = 8, 24, 3


def made() -> TopKSAE:
    torch.manual_seed(0)
    sae = TopKSAE(TopKSpec(d_sae=F, k=K), D)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += torch.randn_like(parameter) * 0.1
    return sae.requires_grad_(False)


def change(file: Path, **values: Any) -> None:
    """Python's json writes NaN, which other readers refuse."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


LOOSE: list[dict[str, Any]] = [
    {"d_in": 8.0, "d_sae": 24.0, "k": 3.0},
    {"apply_b_dec_to_input": None, "normalize_activations": None},
    {"rescale_acts_by_decoder_norm": None},
    {"extra": {"of": ["another", "version"]}, "lr": float("nan"), "loss": float("inf")},
]


@pytest.mark.parametrize("values", LOOSE, ids=str)
@pytest.mark.parametrize("ours", [True, False])
def test_saelens_folders(tmp_path: Path, values: dict[str, Any], ours: bool) -> None:
    save_sae(made(), tmp_path / "sae", {"model_name": "m"}, {})
    if not ours:
        (tmp_path / "sae/provenance.json").unlink()
    change(tmp_path / "sae/cfg.json", **values)
    loaded = load_sae(tmp_path / "sae")
    assert (loaded.d_in, loaded.d_sae, loaded.spec.k) == (D, F, K)  # type: ignore[attr-defined]
    x = torch.randn(5, D)
    torch.testing.assert_close(loaded(x), made()(x))


@pytest.mark.parametrize(
    "values",
    [
        {"d_in": 8.0, "num_latents": 24.0, "k": 3.0},
        {"num_latents": None, "expansion_factor": 3.0},
        {"num_latents": 0, "expansion_factor": 3},
        {"activation": "topk", "signed": None, "skip_connection": None, "transcode": None},
        {"extra": float("nan")},
    ],
    ids=str,
)
def test_sparsify_folders(tmp_path: Path, values: dict[str, Any]) -> None:
    save_sparsify(made(), tmp_path / "sae")
    change(tmp_path / "sae/cfg.json", **values)
    loaded = load_sparsify(tmp_path / "sae")
    x = torch.randn(5, D)
    torch.testing.assert_close(loaded(x), made()(x))


def test_what_another_tool_left_out_is_no_null(tmp_path: Path) -> None:
    save_sae(made(), tmp_path / "sae", {"model_name": None}, {})
    change(tmp_path / "sae/cfg.json", k=None)
    (tmp_path / "sae/provenance.json").unlink()
    with pytest.raises(DataError):
        load_sae(tmp_path / "sae")


@pytest.mark.parametrize("factor", [2, 2.0, 0.5, 1e9])
def test_scales_are_numbers_of_any_kind(tmp_path: Path, factor: float) -> None:
    save_sae(made(), tmp_path / "sae", {}, {})
    (tmp_path / "sae/provenance.json").unlink()
    change(tmp_path / "sae/cfg.json", normalize_activations="expected_average_only_in")
    (tmp_path / "sae/activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    x = torch.randn(5, D)
    wanted = made()(x * factor) / factor
    torch.testing.assert_close(load_sae(tmp_path / "sae")(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    ["null", "true", '"2"', "0", "-1", "NaN", "Infinity", "1e31", "[2]", "{}", "1" + "0" * 400],
)
def test_scales_that_are_none(tmp_path: Path, text: str) -> None:
    save_sae(made(), tmp_path / "sae", {}, {})
    (tmp_path / "sae/provenance.json").unlink()
    change(tmp_path / "sae/cfg.json", normalize_activations="expected_average_only_in")
    (tmp_path / "sae/activation_scaler.json").write_text(f'{{"scaling_factor": {text}}}')
    with pytest.raises(DataError, match="no single scaling_factor"):
        load_sae(tmp_path / "sae")


def test_numbers_of_numpy_in_a_configuration() -> None:
    """As a SAELens release hands them over."""
    keys, tensors = made().saelens_export()
    keys = {**keys, "d_in": np.int64(D), "d_sae": np.int32(F), "k": np.float32(K)}
    assert imported(keys, tensors).d_sae == F


def test_what_is_written_is_json_for_all(tmp_path: Path) -> None:
    odd = {
        "nan": float("nan"),
        "numpy": np.float32(0.5),
        "whole": np.int64(7),
        "array": np.arange(2),
        "tensor": torch.tensor(3),
        "dtype": torch.float32,
        "path": tmp_path,
        "text": "a\x00\ud800\U0001f600",
        3: (1, None, True),
    }
    save_sae(made(), tmp_path / "sae", odd, {"metrics": odd})

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for name in ("cfg.json", "provenance.json"):
        json.loads((tmp_path / "sae" / name).read_text(), parse_constant=refuse)
    metadata = read_metadata(tmp_path / "sae")
    assert (metadata["nan"], metadata["numpy"], metadata["whole"]) == (None, 0.5, 7)
    assert (metadata["array"], metadata["tensor"], metadata["3"]) == ([0, 1], 3, [1, None, True])
    assert metadata["text"] == odd["text"]
    assert open_sae(tmp_path / "sae").sae.d_sae == F


def test_a_round_trip_keeps_values(tmp_path: Path) -> None:
    value = {"a": 1, "b": 0.1, "c": [True, None, "x"], "d": {"e": -2.5}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value == plain(value)


def test_the_first_layer_is_a_layer(tmp_path: Path) -> None:
    trainer = {"dict_class": "AutoEncoder", "layer": 0, "lm_name": "m", "submodule_name": None}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    assert dictionary_metadata(tmp_path) == {"layer": 0, "model_name": "m"}
