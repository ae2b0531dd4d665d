"""What the weights around the residual stream do to a direction: W_U, W_O, W_down, norms."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from monosemy.errors import ModelError
from monosemy.models.architecture import is_linear, linear_weight


def unembedding_matrix(model: Any, d_model: int) -> Tensor:
    """W_U as float32 ``[d_model, d_vocab]`` on the CPU."""
    head = model.get_output_embeddings()
    if head is None or not is_linear(head):
        raise ModelError(f"{type(model).__name__} has no linear unembedding.")
    matrix = linear_weight(head).detach().float().cpu()
    if matrix.shape[0] != d_model:
        raise ModelError(
            f"{type(model).__name__} projects its stream from {d_model} to {matrix.shape[0]} "
            "before the unembedding, so directions have no logits of their own."
        )
    return matrix


def final_norm_gain(norm: nn.Module | None, d_model: int) -> Tensor:
    """The elementwise factor a norm applies, float32 ``[d_model]``; ones where there is no norm.

    Measured, not read: some families store ``weight``, some ``weight - 1``.
    """
    if norm is None:
        return torch.ones(d_model)
    probe = _balanced(d_model)
    exact = copy.deepcopy(norm).float().cpu()
    with torch.no_grad():
        difference: Tensor = exact(probe[None]) - exact(-probe[None])
    return difference[0] / (2 * probe)


def _balanced(width: int) -> Tensor:
    """A vector of mean 0 and mean square 1 without zeros: LayerNorm and RMSNorm leave it alone."""
    signs = torch.ones(width)
    signs[1::2] = -1
    if width % 2:
        signs[-1], signs[0] = 0.5, 0.5
    return signs / signs.square().mean().sqrt()


def project_to_residual(
    projection: nn.Module, branch: nn.Module, directions_FD: Tensor, d_model: int
) -> Tensor:
    """Rows of ``directions_FD`` through a projection, and through its sandwich norm's gain.

    The norm divides by a length that depends on the token, so the result is right up to a positive
    factor.
    """
    weight = linear_weight(projection).detach().to(directions_FD)
    result = directions_FD @ weight
    if "norm" in type(branch).__name__.lower():
        result = result * final_norm_gain(branch, d_model).to(result)
    return result
