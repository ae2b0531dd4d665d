"""Crosscoders of the dictionary_learning package: ``ae.safetensors`` made of its pickle, or the
``model.safetensors`` of a folder on the hub.

``encoder.weight [M, d, F]``, ``decoder.weight [M, F, d]``; activations are centred and scaled
inside where the files hold a mean, which is folded in here.  With a threshold latents fire where
activation times the sum of decoder norms is above it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.crosscoder_parts import relu_crosscoder, threshold_crosscoder
from monosemy.formats.dictionary_learning import CONFIG, WEIGHTS
from monosemy.formats.folder import faults_of, float32, read_json, read_tensors
from monosemy.formats.header import check_safetensors
from monosemy.formats.opened import OpenedSAE, Wanted
from monosemy.saes.base import SAE

NAME = "dictionary_crosscoder"
HUB_WEIGHTS = "model.safetensors"
_COMPILED = "_orig_mod."
_BY_ALL_NORMS = 1
"""Of ``code_normalization_id``: the sum of decoder norms over places."""
_LACKED = tuple(
    f"{prefix}activation_{name}" for prefix in ("", _COMPILED) for name in ("mean", "std")
)
"""NaN where activations are taken as they are."""
_ALMOST_NOTHING = 1e-8
"""What is added to standard deviations there."""


def holds(folder: Path) -> bool:
    return _weights(folder) is not None


def open_folder(folder: Path, wanted: Wanted) -> OpenedSAE:
    """The crosscoder in a folder.  Its files do not say at which places it is hooked.

    ``DataError`` for one whose latents fire place by place, or by another measure than the sum of
    norms, and for tensors that do not fit.
    """
    del wanted
    file = _weights(folder)
    assert file is not None
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    with faults_of(folder, "crosscoder"):
        sae = _built(_plain(read_tensors(file, may_lack=_LACKED)), config)
    return OpenedSAE(sae, {}, NAME)


def _weights(folder: Path) -> Path | None:
    for name in (WEIGHTS, HUB_WEIGHTS):
        if (folder / name).is_file():
            shapes = check_safetensors(folder / name)
            encoder = shapes.get("encoder.weight") or shapes.get(f"{_COMPILED}encoder.weight")
            if encoder is not None and len(encoder) == 3:
                return folder / name
    return None


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what saving a compiled module puts before its names."""
    return float32({name.removeprefix(_COMPILED): value for name, value in tensors.items()})


def _built(tensors: dict[str, Tensor], config: dict[str, Any]) -> SAE:
    W_enc, W_dec = tensors["encoder.weight"], tensors["decoder.weight"]
    b_enc, b_dec = tensors["encoder.bias"], tensors["decoder.bias"]
    if W_enc.dim() != 3 or W_dec.dim() != 3 or b_dec.shape != W_dec.shape[::2]:
        raise DataError("its encoder, decoder and biases do not fit each other.")
    mean, factor = _scaling(tensors, b_dec)
    threshold = _threshold(tensors)
    rest = (b_enc, W_dec, b_dec)
    if threshold is None:
        sae: SAE = relu_crosscoder(W_enc, *rest)
    else:
        sae = threshold_crosscoder(W_enc, *rest, threshold, _k(tensors, config))
    if mean is not None and factor is not None:
        sae.rescale(factor, factor)
        # What is read is centred by b_dec before it is encoded, so that moving that by the mean
        # moves both ends.
        sae.b_dec.add_(mean.flatten())
    return sae


def _scaling(tensors: dict[str, Tensor], b_dec: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """(mean ``[M, d]``, factor ``[M * d]``) of what is done to activations; None where nothing."""
    mean, std = tensors.get("activation_mean"), tensors.get("activation_std")
    if mean is None or std is None or mean.isnan().any():
        return None, None
    if mean.shape != b_dec.shape or std.shape != b_dec.shape:
        raise DataError("its mean and standard deviation are not of each place and dimension.")
    scale = tensors.get("activation_global_scale")
    if scale is not None:
        return mean, scale.reshape(1).expand(b_dec.numel()).clone()
    return mean, (1 / (std + _ALMOST_NOTHING)).flatten()


def _threshold(tensors: dict[str, Tensor]) -> float | None:
    """None of one that fires where anything is positive."""
    threshold = tensors.get("threshold")
    if threshold is None:
        return None
    if threshold.numel() != 1:
        raise DataError("its latents fire place by place, which crosscoders here do not.")
    measure = tensors.get("code_normalization_id")
    if measure is not None and int(measure) != _BY_ALL_NORMS:
        raise DataError("its latents are not measured by the sum of their norms over places.")
    value = float(threshold)
    if value < 0:
        raise DataError("its threshold was never set; train it longer or set it.")
    return value


def _k(tensors: dict[str, Tensor], config: dict[str, Any]) -> int:
    trainer = config.get("trainer")
    named = trainer.get("k") if isinstance(trainer, dict) else config.get("k")
    value = tensors.get("k", named)
    if value is None:
        raise KeyError("k")
    return int(value)
