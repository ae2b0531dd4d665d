"""What the architectures share in reading SAELens' ``cfg.json`` and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from monosemy.errors import DataError
from monosemy.saes.base import SAE
from monosemy.specs import SAESpec

CENTRED: dict[str, Any] = {"apply_b_dec_to_input": True, "normalize_activations": "none"}
"""Of an SAE that subtracts ``b_dec`` from its input."""

_NOT_CENTRED: dict[str, Any] = {"apply_b_dec_to_input": False, "normalize_activations": "none"}
"""Of a transcoder, whose ``b_dec`` lives at another place."""

_TRANSCODERS = {"standard": "{}transcoder", "jumprelu": "jumprelu_{}transcoder"}
"""What SAELens calls transcoders, by the name of the SAE that encodes as they do."""

AnySAEClass = TypeVar("AnySAEClass", bound=SAE)


def require(config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """``DataError`` for a key that has another value than the only one that is computed here; one
    that is missing, or null, has that."""
    for key, value in values.items():
        if config.get(key) is not None and config[key] != value:
            raise DataError(f"cfg.json has {key} = {config[key]!r}; only {value!r} is supported.")


def exported(
    sae: SAE, encodes_as: str, more: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``cfg.json`` keys and tensors (``more`` among them) of an SAE that encodes as SAELens'
    ``encodes_as`` does, in the class of transcoders if it is one."""
    weights = {name: getattr(sae, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    if not sae.transcodes:
        return {"architecture": encodes_as, **CENTRED}, {**weights, **more}
    skip = sae.skip_matrix()
    name = _TRANSCODERS[encodes_as].format("" if skip is None else "skip_")
    if skip is not None:
        weights["W_skip"] = skip
    return {"architecture": name, "d_out": sae.d_out, **_NOT_CENTRED}, {**weights, **more}


def imported(
    kind: type[AnySAEClass],
    spec: type[SAESpec],
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> AnySAEClass:
    """The reverse, of weights by our names; ``DataError`` as ``require`` and ``filled`` have it."""
    name = config["architecture"]
    if name not in spec.saelens_transcoders:
        require(config, CENTRED)
        return filled(kind, checked_spec(spec, d_sae=config["d_sae"]), weights, config["d_in"])
    require(config, _NOT_CENTRED)
    options = {"skip": True} if "skip" in name else {}
    made = checked_spec(spec, d_sae=config["d_sae"], **options)
    return filled(kind, made, weights, config["d_in"], config["d_out"])


def checked_spec(kind: type[SAESpec], **fields: Any) -> SAESpec:
    """A spec out of foreign values; ``DataError`` where they make none."""
    try:
        return kind(**fields)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise DataError(
            f"cfg.json is not a usable configuration: {where}: {fault['msg']}."
        ) from None


def filled(
    kind: type[AnySAEClass],
    spec: SAESpec,
    tensors: Mapping[str, Tensor],
    d_in: int,
    d_out: int | None = None,
) -> AnySAEClass:
    """An SAE of ``spec`` that holds ``tensors``, in float32 on the CPU, without gradients.

    Raises ``DataError`` when names or shapes differ from what the spec asks for; they are compared
    before anything of the claimed size is allocated.  Buffers, which hold what training needs, may
    be missing: they keep their first values.
    """
    with torch.device("meta"):
        shape = kind(spec, d_in, d_out)
    buffers = {name for name, _ in shape.named_buffers()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    expected = {
        name: tuple(value.shape)
        for name, value in shape.state_dict().items()
        if name in shapes or name not in buffers
    }
    if shapes != expected:
        raise DataError(
            f"The file of weights does not fit cfg.json: it holds {_shapes(shapes)}; "
            f"expected {_shapes(expected)}."
        )
    sae = kind(spec, d_in, d_out)
    sae.load_state_dict(dict(tensors), strict=False)
    return sae.requires_grad_(False)


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
