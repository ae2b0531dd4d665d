"""Folders of EleutherAI's sparsify (1.x): ``cfg.json`` and ``sae.safetensors``.

An encoder is a linear layer (``encoder.weight [latents, d_in]``), the input is centred by ``b_dec``
unless it is a transcoder, codes are the k largest after a ReLU, ``W_dec [latents, d_in]`` is laid
out as ours, and ``W_skip [d_in, d_in]`` is added where there is a skip connection.  ``num_latents``
of 0 means ``d_in * expansion_factor``; ``normalize_decoder`` and ``multi_topk`` say how it was
trained and nothing about what it computes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from monosemy.errors import DataError
from monosemy.formats.equivalent import not_centred
from monosemy.formats.folder import (
    UNUSABLE,
    float32,
    read_json,
    read_tensors,
    replacing,
    whole,
    write_json,
    write_tensors,
)
from monosemy.saes import saelens_keys
from monosemy.saes.base import SAE
from monosemy.saes.topk import TopKSAE
from monosemy.saes.transcoder import TranscoderSAE
from monosemy.specs import TopKSpec, TranscoderSpec

WEIGHTS, CONFIG = "sae.safetensors", "cfg.json"

_ELSEWHERE = "blocks.0.hook_mlp_out"
"""A transcoder's spec names its target site; this is used where the files do not name one."""

_MODULES = {"": "hook_resid_post", ".mlp": "hook_mlp_out"} | dict.fromkeys(
    (".attn", ".self_attn", ".attention"), "hook_attn_out"
)
"""What the output of a layer, or of a part of it, is called here."""


def load_sparsify(folder: str | Path, target_site: str | None = None) -> SAE:
    """The SAE or transcoder in a sparsify folder, in float32 on the CPU, without gradients.

    ``target_site`` says where a transcoder writes; by default the folder's name does, as sparsify
    names folders by module (``layers.3.mlp``).  With a skip connection an SAE is a transcoder too,
    to its own site.  Raises ``DataError`` for another activation than topk and for tensors that do
    not fit.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    activation = config.get("activation", "topk")
    if activation != "topk" or config.get("signed"):
        name = "signed topk" if activation == "topk" else activation
        raise DataError(f"{folder}: its activation is '{name}'; only 'topk' is known here.")
    tensors = float32(read_tensors(folder / WEIGHTS))
    try:
        site = target_site or sparsify_metadata(folder).get("target_site") or _ELSEWHERE
        return _built(config, tensors, str(site))
    except KeyError as error:
        raise DataError(f"{folder} lacks {error} in its configuration or tensors.") from None
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    except UNUSABLE as error:
        raise DataError(f"{folder / CONFIG} is not a usable configuration: {error}.") from None


def save_sparsify(sae: SAE, folder: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Writes a folder that sparsify loads; ``DataError`` for what it cannot express.

    That is a TopK SAE without refinement, and a transcoder between sites of equal width.
    ``metadata`` (model_name, hook_name, ...) lies in ``cfg.json``, where sparsify passes over it.
    """
    spec = sae.spec
    if not isinstance(spec, TopKSpec | TranscoderSpec) or spec.ista_steps:
        raise DataError(
            f"sparsify has no form of a '{spec.architecture}' SAE: only of TopK without refinement "
            "and of transcoders."
        )
    if sae.d_in != sae.d_out:
        raise DataError("sparsify's transcoders connect sites of equal width.")
    hooks = (metadata or {}).get("hooks") or {}
    if any(len(hooks.get(name, ())) > 1 for name in ("reads", "writes")):
        raise DataError("sparsify has no form of an SAE that is hooked at several places.")
    transcodes = sae.transcodes
    tensors = {
        "encoder.weight": sae.W_enc.T,
        "encoder.bias": sae.b_enc,
        "W_dec": sae.W_dec,
        "b_dec": sae.b_dec,
    }
    skip = sae.skip_matrix()
    if skip is not None:
        tensors["W_skip"] = skip
    metadata = dict(metadata or {})
    if transcodes:
        target = spec.target_site if isinstance(spec, TranscoderSpec) else None
        metadata["target_site"] = target or metadata.get("hook_name_out")
    config = {
        "activation": "topk",
        "expansion_factor": max(1, round(sae.d_sae / sae.d_in)),
        "normalize_decoder": not transcodes,
        "num_latents": sae.d_sae,
        "k": spec.k,
        "multi_topk": False,
        "skip_connection": skip is not None,
        "transcode": transcodes,
        "d_in": sae.d_in,
        "metadata": metadata,
    }
    with replacing(folder, (CONFIG, WEIGHTS)) as partial:
        write_tensors(partial / WEIGHTS, float32(tensors))
        write_json(partial / CONFIG, config)


def sparsify_metadata(folder: str | Path) -> dict[str, Any]:
    """What is known of where it was trained: the hookpoint (the folder's name), model_name,
    hook_name (not of a transcoder, whose input is no site here) and target_site (only of one).

    From our own note in ``cfg.json``, the folder's name, and the run's ``config.json`` one folder
    above.
    """
    folder = Path(folder)
    config = read_json(folder / CONFIG)
    metadata: dict[str, Any] = {"hookpoint": folder.name}
    module = re.search(r"(?:layers|h|blocks)[._](\d+)(\.\w+)?$", folder.resolve().name)
    if module is not None and (module[2] or "") in _MODULES:
        site = f"blocks.{module[1]}.{_MODULES[module[2] or '']}"
        metadata["target_site" if config.get("transcode") else "hook_name"] = site
    run = folder.resolve().parent / "config.json"
    if run.is_file():
        above = read_json(run)
        named = {"model_name": "model", "dataset": "dataset", "context_size": "ctx_len"}
        metadata |= {ours: above[theirs] for ours, theirs in named.items() if above.get(theirs)}
    noted = config.get("metadata")
    return {**metadata, **noted} if isinstance(noted, Mapping) else metadata


def _built(config: Mapping[str, Any], tensors: Mapping[str, Tensor], site: str) -> SAE:
    d_in = whole(config, "d_in")
    latents = config.get("num_latents")
    if not latents:
        latents = d_in * whole(config, "expansion_factor")
    options = {"d_sae": latents, "k": whole(config, "k")}
    encoder = tensors["encoder.weight"]
    if encoder.dim() != 2:
        raise DataError(f"encoder.weight {list(encoder.shape)} is no matrix.")
    own = {"W_enc": encoder.T, "b_enc": tensors["encoder.bias"]}
    own |= {name: tensors[name] for name in ("W_dec", "b_dec")}
    skip, transcode = bool(config.get("skip_connection")), bool(config.get("transcode"))
    if not skip and not transcode:
        spec = saelens_keys.checked_spec(TopKSpec, **options)
        return saelens_keys.filled(TopKSAE, spec, own, d_in)
    if skip:
        own["W_skip"] = tensors["W_skip"]
    if not transcode and own["b_dec"].shape == (encoder.shape[1],):
        own |= not_centred(own)  # our transcoders do not centre the input
    transcoder = saelens_keys.checked_spec(TranscoderSpec, **options, skip=skip, target_site=site)
    return saelens_keys.filled(TranscoderSAE, transcoder, own, d_in, d_in)
