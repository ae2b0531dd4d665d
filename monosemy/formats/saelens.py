"""SAE folders as SAELens v6 has them, plus what is ours.

``cfg.json`` and ``sae_weights.safetensors`` are what ``sae_lens.SAE.load_from_disk`` reads, and
``sparsity.safetensors`` the firing rates as it keeps them.  ``provenance.json`` says where the SAE
came from.  Where SAELens' form is another than ours (a BatchTopK SAE is a JumpReLU one there),
``state.safetensors`` holds what is missing of ours; where it has no form at all, ``cfg.json`` says
``monosemy.`` and the architecture's name, which SAELens refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.equivalent import canonical
from monosemy.formats.folder import (
    UNUSABLE,
    float32,
    plain,
    read_json,
    read_tensors,
    replacing,
    write_json,
    write_tensors,
)
from monosemy.saes import saelens_keys
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import ARCHITECTURES, SAESpec, implementation_of
from monosemy.specs.plugins import VARIABLE

FORMAT_VERSION = "6.0.0"
"""SAELens translates folders without a version, or of an older one, as pre-6 ones."""

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"
_PROVENANCE, _STATE, _SPARSITY = "provenance.json", "state.safetensors", "sparsity.safetensors"
_SCALER = "activation_scaler.json"
_OURS = "monosemy."
"""Begins the architecture of a ``cfg.json`` that SAELens cannot have written or read."""

_LEAST_DENSITY = 1e-10
"""Where SAELens' logarithm ends."""


def save_sae(
    sae: SAE,
    folder: str | Path,
    metadata: Mapping[str, Any],
    provenance: Mapping[str, Any],
    density: Tensor | None = None,
) -> None:
    """Writes ``folder`` whole or not at all; the files of an SAE that is there are replaced.

    ``metadata`` goes into SAELens' own metadata (model_name, hook_name, context_size, ...),
    ``provenance`` into a file of its own; both must be ready for JSON.  ``density``: share of
    tokens on which each latent fires, ``[d_sae]``.  ``DataError`` where the disk refuses.
    """
    keys, tensors = _exported(sae)
    written = float32(tensors)
    state = {
        name: value for name, value in sae.state_dict().items() if _lacks(written, name, value)
    }
    with replacing(folder, (CONFIG, WEIGHTS, _STATE, _SPARSITY, _PROVENANCE)) as partial:
        write_tensors(partial / WEIGHTS, written)
        if state:
            write_tensors(partial / _STATE, state)
        if density is not None:
            rates = density.float().clamp_min(_LEAST_DENSITY).log10()
            write_tensors(partial / _SPARSITY, {"sparsity": rates})
        write_json(partial / CONFIG, _config(sae, keys, metadata))
        write_json(partial / _PROVENANCE, {**_origin(sae.spec), **provenance})


def load_sae(folder: str | Path) -> SAE:
    """The SAE in ``folder``, in float32 on the CPU, without gradients.

    One that was saved here comes back as what it was, unless somebody changed SAELens' files since.
    Raises ``DataError`` for a folder that is no SAELens v6 folder, holds another architecture than
    those there are, or one of a plugin that is not here, or whose tensors do not fit its
    configuration.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    check_plugin(folder)
    architecture = str(config.get("architecture"))
    if architecture not in _importable() and not architecture.startswith(_OURS):
        raise DataError(f"{folder} holds a '{architecture}' SAE; known here: {_known()}.")
    _refuse_old(folder, config)
    weights = read_tensors(folder / WEIGHTS)
    state = read_tensors(folder / _STATE) if (folder / _STATE).is_file() else {}
    try:
        if architecture.startswith(_OURS):
            stored = read_provenance(folder)["sae"]
            # Of an SAE that reconstructs what it reads, d_out says nothing new.
            elsewhere = config.get("transcodes") or architecture == f"{_OURS}transcoder"
            d_out = config["d_out"] if elsewhere else None
            return _restored(stored, {**weights, **state}, config["d_in"], d_out)
        return _own_form(folder, config, weights, state) or imported(
            config, weights, _scale(folder, config)
        )
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    except KeyError as error:
        raise DataError(f"{folder / CONFIG} or its tensors lack {error}.") from None
    except UNUSABLE as error:
        raise DataError(f"{folder / CONFIG} is not a usable configuration: {error}.") from None


def imported(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], scale: float | None = None
) -> SAE:
    """An SAE out of SAELens' configuration and tensors.  ``scale``: what its inputs were multiplied
    by in training, where that is not folded into the tensors.

    Raises ``DataError`` as the architecture's class does, ``KeyError`` where something is missing,
    ``TypeError`` or ``ValueError`` for keys of the wrong kind.
    """
    architecture = str(config.get("architecture"))
    kind = _importable().get(architecture)
    if kind is None:
        raise DataError(f"it is a '{architecture}' SAE; known here: {_known()}.")
    config, tensors = canonical(plain(config, whole_floats=True), tensors)
    if scale is not None:
        config["normalize_activations"] = "none"
    sae = implementation_of(kind).saelens_import(config, tensors)
    if scale is not None:
        sae.rescale(scale, scale)
    return sae


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """What we wrote beside the weights; ``DataError`` for a folder that is not ours."""
    return read_json(Path(folder) / _PROVENANCE)


def read_density(folder: str | Path) -> Tensor | None:
    """Share of tokens on which each latent fires, ``[d_sae]``; None where it is not recorded."""
    file = Path(folder) / _SPARSITY
    if not file.is_file():
        return None
    tensors = read_tensors(file)
    rates = tensors.get("sparsity")
    if rates is None or rates.dim() != 1:
        raise DataError(f"{file} holds no vector named sparsity.")
    density = torch.pow(10.0, rates.float())
    return torch.where(density <= _LEAST_DENSITY * 1.01, 0.0, density)


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """SAELens' metadata: model_name, hook_name, context_size, prepend_bos and what else is there;
    empty where there is none."""
    metadata = read_json(Path(folder) / CONFIG).get("metadata")
    return dict(metadata) if isinstance(metadata, Mapping) else {}


def _config(sae: SAE, keys: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    hook = str(metadata.get("hook_name", ""))
    return {
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        # SAELens hands over hook_z as [..., heads, d_head]; our activations are flat.
        "reshape_activations": "hook_z" if hook.endswith("hook_z") else "none",
        **keys,
        "metadata": {"sae_lens_version": FORMAT_VERSION, **metadata},
    }


def _exported(sae: SAE) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """SAELens' form, or ours where it has none."""
    try:
        keys, tensors = sae.saelens_export()
        # One who did not think of transcoders gives the form of an SAE.
        if sae.transcodes == _is_transcoder(keys):
            return keys, tensors
    except DataError:
        pass
    keys = {"architecture": _OURS + sae.spec.architecture, "d_out": sae.d_out}
    return keys | ({"transcodes": True} if sae.transcodes else {}), sae.state_dict()


def _is_transcoder(config: Mapping[str, Any]) -> bool:
    return str(config["architecture"]).endswith("transcoder")


def _origin(spec: SAESpec) -> dict[str, Any]:
    """The architecture's options, and the plugin that it is from."""
    plugins = spec.plugins()
    options = {"sae": spec.model_dump(mode="json")}
    return {**options, "plugin": plugins[0]} if plugins else options


def check_plugin(folder: Path) -> None:
    """``DataError`` where the SAE's architecture is from a plugin that is not there, or there in
    another version whose SAEs compute something else."""
    if not (folder / _PROVENANCE).is_file():
        return
    written = read_json(folder / _PROVENANCE)
    options, plugin = written.get("sae"), written.get("plugin")
    if not isinstance(plugin, Mapping) or not isinstance(options, Mapping):
        return
    name, module, version = options.get("architecture"), plugin.get("module"), plugin.get("version")
    known = ARCHITECTURES.find(name)
    if known is None:
        raise DataError(
            f"{folder}: its architecture '{name}' is from the plugin {module} ({version}), which is"
            " not here.",
            f"Name it in {VARIABLE}, or import it before.",
        )
    if version not in (known.version, *known.reads_versions):
        raise DataError(
            f"{folder}: its architecture '{name}' is from version {version} of the plugin {module},"
            f" and version {known.version} is here.",
            "Install that version; or the newer one says in reads_versions that it computes the"
            " same.",
        )


def _lacks(written: Mapping[str, Tensor], name: str, value: Tensor) -> bool:
    """Whether the weights as they are written do not say ``value`` to the last bit."""
    there = written.get(name)
    same = there is not None and there.dtype == value.dtype and there.shape == value.shape
    return not (same and there is not None and torch.equal(there, value))


def _own_form(
    folder: Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> SAE | None:
    """The SAE as our own files have it; None where there are none, or where SAELens' files say
    something else by now."""
    try:
        stored = read_provenance(folder)["sae"]
        d_out = config["d_out"] if _is_transcoder(config) else None
        sae = _restored(stored, {**weights, **state}, config["d_in"], d_out)
        keys, tensors = sae.saelens_export()
    except (DataError, KeyError, *UNUSABLE):
        return None
    same = tensors.keys() == weights.keys() and all(
        _equal(value, weights[name]) for name, value in tensors.items()
    )
    keys = {**keys, "d_in": sae.d_in, "d_sae": sae.d_sae}
    return sae if same and all(config.get(key) == value for key, value in keys.items()) else None


def _equal(ours: Tensor, written: Tensor) -> bool:
    """Not to the last bit: another machine's exp gives another one."""
    same = ours.shape == written.shape
    return same and torch.allclose(ours.float(), written.float(), rtol=1e-6, atol=0)


def _restored(
    stored: Mapping[str, Any], tensors: Mapping[str, Tensor], d_in: int, d_out: int | None
) -> SAE:
    """An SAE of the ``stored`` spec, out of those of the tensors that are its state."""
    architecture = stored["architecture"]
    if architecture not in ARCHITECTURES:
        raise DataError(f"provenance.json names an unknown architecture, '{architecture}'.")
    spec = ARCHITECTURES[architecture].model_validate(stored)
    with torch.device("meta"):
        names = create(spec, d_in, d_out).state_dict().keys()
    missing = names - tensors.keys()
    if missing:
        raise DataError(f"{WEIGHTS} and {_STATE} lack {', '.join(sorted(missing))}.")
    return saelens_keys.filled(
        implementation_of(spec), spec, {name: tensors[name] for name in names}, d_in, d_out
    )


def _scale(folder: Path, config: Mapping[str, Any]) -> float | None:
    """What SAELens multiplied activations by, where it wrote that beside a checkpoint: only at the
    end of training does it fold it into the weights."""
    if config.get("normalize_activations") != "expected_average_only_in":
        return None
    if not (folder / _SCALER).is_file():
        raise DataError(
            "its weights expect activations scaled to an average norm, and nothing says by what.",
            f"Put SAELens' {_SCALER} beside them, or load an SAE saved at the end of its training.",
        )
    scaler = read_json(folder / _SCALER)
    factor = scaler.get("scaling_factor")
    usable = isinstance(factor, int | float) and not isinstance(factor, bool)
    if scaler.get("has_whitening") or not usable or not 0 < cast(float, factor) < 1e30:
        raise DataError(f"{_SCALER} holds no single scaling_factor.")
    return float(cast(float, factor))


def _importable() -> dict[str, type[SAESpec]]:
    """The options' classes of what can be read, by SAELens' names."""
    return {
        name: kind
        for kind in ARCHITECTURES.values()
        for name in (kind.saelens_name, *kind.saelens_transcoders)
        if name is not None
    }


def _known() -> str:
    return ", ".join(_importable())


def _refuse_old(folder: Path, config: Mapping[str, Any]) -> None:
    metadata = config.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, Mapping) else None
    major = re.match(r"\d+", str(version))
    if major is None or int(major[0]) < 6:
        raise DataError(
            f"{folder} is no SAELens v6 folder: metadata.sae_lens_version is {version!r}.",
            "Load it with SAELens 6 and save it again.",
        )
