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

AnySAEClass = TypeVar("AnySAEClass", bound=SAE)


def require(config: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """``DataError`` for a key that has another value than the only one that is computed here; one
    that is missing, or null, has that."""
    for key, value in values.items():
        if config.get(key) is not None and config[key] != value:
            raise DataError(f"cfg.json has {key} = {config[key]!r}; only {value!r} is supported.")


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
