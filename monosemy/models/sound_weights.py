"""Weights that no model can be run with: values that are not finite, packed integers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monosemy.errors import ModelError
from monosemy.models.architecture import is_linear


def check_weights(model: nn.Module, name: str) -> None:
    """``ModelError`` names the first weight with NaN or infinity, or the way it is quantised.

    Every parameter is looked at once.  Buffers may hold -inf (masks), so only NaN is a fault there.
    """
    method = _quantised(model)
    if method is not None:
        raise ModelError(
            f"{name} is quantised ({method}): its weights are packed and cannot be read or edited "
            "as numbers.",
            "Take the model in bfloat16 or float32, or a .gguf file, which is unpacked.",
        )
    for label, value in model.named_parameters():
        if not bool(_ends(value).isfinite().all()):
            raise _not_finite(name, label, value, ~value.detach().float().isfinite())
    for label, buffer in model.named_buffers():
        if bool(_ends(buffer).isnan().any()):
            raise _not_finite(name, label, buffer, buffer.detach().float().isnan())


def _ends(value: Tensor) -> Tensor:
    """Least and largest value, ``[2]``, in one pass without a copy: NaN and infinities show there.

    Zeros for what is no floating point, is elsewhere (meta) or empty.
    """
    if not value.is_floating_point() or value.is_meta or not value.numel():
        return torch.zeros(2)
    flat = value.detach()
    return torch.stack((flat if flat.element_size() > 1 else flat.float()).aminmax())


def _not_finite(name: str, label: str, value: Tensor, faults: Tensor) -> ModelError:
    count = int(faults.sum())
    return ModelError(
        f"The weights of {name} are not finite: {label} has {count} of {value.numel()} values that "
        "are NaN or infinite.",
        "The files are damaged or were made so, or they overflow in model.dtype=float16; take "
        "another copy, or set model.dtype=bfloat16.",
    )


def _quantised(model: nn.Module) -> str | None:
    """The method, where a linear layer holds something else than floating point."""
    for module in model.modules():
        weight = getattr(module, "weight", None)
        packed = getattr(module, "qweight", None)
        if isinstance(packed, Tensor) or (
            is_linear(module)
            and isinstance(weight, Tensor)
            and (not weight.is_floating_point() or weight.element_size() < 2)
        ):
            config = getattr(getattr(model, "config", None), "quantization_config", None)
            named = config.get("quant_method") if isinstance(config, dict) else None
            return str(named or getattr(config, "quant_method", None) or type(module).__name__)
    return None
