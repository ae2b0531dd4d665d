"""What the weights around the residual stream do to a direction: W_U, W_O, W_down, norms."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from monosemy.errors import ModelError
from monosemy.models.architecture import is_linear, linear_weight
from monosemy.models.norms import balanced


def no_unembedding(model: Any, owner: nn.Module, d_model: int) -> str | None:
    """Why there is no matrix from the stream to the logits, or None where there is one.

    ``owner`` is the module that owns the blocks.
    """
    head = model.get_output_embeddings()
    if head is None:
        return "its files hold no unembedding (no language-model head)"
    if not is_linear(head):
        return f"its unembedding is a {type(head).__name__}, not a linear layer"
    width = linear_weight(head).shape[0]
    if width != d_model and _projection(owner, d_model, width) is None:
        return f"it projects its stream from {d_model} to {width} before the unembedding"
    return None


def unembedding_matrix(model: Any, owner: nn.Module, d_model: int) -> Tensor:
    """W_U as float32 ``[d_model, d_vocab]`` on the CPU, a projection before it (OPT-350M) included.

    ``ModelError`` where ``no_unembedding`` has a reason.
    """
    reason = no_unembedding(model, owner, d_model)
    if reason is not None:
        raise ModelError(
            f"{type(model).__name__} gives directions no logits of their own: {reason}."
        )
    matrix = linear_weight(model.get_output_embeddings()).detach().float().cpu()
    if matrix.shape[0] == d_model:
        return matrix
    before = _projection(owner, d_model, matrix.shape[0])
    assert before is not None
    return linear_weight(before).detach().float().cpu() @ matrix


def _projection(owner: nn.Module, d_model: int, width: int) -> nn.Module | None:
    """The linear layer from the stream to an embedding of another width."""
    module: Any = getattr(owner, "project_out", None)
    if is_linear(module) and tuple(linear_weight(module).shape) == (d_model, width):
        projection: nn.Module = module
        return projection
    return None


def final_norm_gain(norm: nn.Module | None, d_model: int) -> Tensor:
    """The elementwise factor a norm applies, float32 ``[d_model]``; ones where there is no norm.

    Measured, not read: some families store ``weight``, some ``weight - 1``.
    """
    if norm is None:
        return torch.ones(d_model)
    direction = balanced(d_model)
    exact = copy.deepcopy(norm).float().cpu()
    with torch.no_grad():
        difference: Tensor = exact(direction[None]) - exact(-direction[None])
    return difference[0] / (2 * direction)


def project_to_residual(
    projection: nn.Module | None, branch: nn.Module, directions_FD: Tensor, d_model: int
) -> Tensor:
    """Rows of ``directions_FD`` through a projection, where there is one, and through the gain of a
    sandwich norm.

    The norm divides by a length that depends on the token, so the result is right up to a positive
    factor.
    """
    result = directions_FD
    if projection is not None:
        result = result @ linear_weight(projection).detach().to(directions_FD)
    if "norm" in type(branch).__name__.lower():
        result = result * final_norm_gain(branch, d_model).to(result)
    return result
