"""Optimisers by name.  Their state is tensors only, so that checkpoints hold it as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Name = Literal["adam", "signum", "muon"]

_BETAS = (0.9, 0.999)
_MOMENTUM = 0.95

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def make_optimiser(
    name: Name, parameters: Iterable[nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """``adam`` (two states a weight, fused), ``signum`` (one state), ``muon`` (one state a weight
    of a matrix, two of a bias)."""
    if name == "signum":
        return Signum(parameters, rate)
    if name == "muon":
        return Muon(parameters, rate)
    return Adam(parameters, lr=rate, betas=_BETAS, fused=True)


class Adam(torch.optim.Adam):
    """The fused one, over each parameter's memory as it lies.

    Of a transposed one, as ``W_enc`` is, the fused kernel first copies parameter and gradient into
    rows; four times the time.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        has_complex: bool = super()._init_group(group, *lists)  # type: ignore[no-untyped-call]
        parameters, grads, means, squares = lists[:4]
        for i, same in enumerate(zip(parameters, grads, means, squares, strict=True)):
            if all(each.dim() == 2 and each.T.is_contiguous() for each in same):
                for of, each in zip(lists, same, strict=False):
                    of[i] = each.T
        return has_complex


class Signum(torch.optim.Optimizer):
    """Steps of one size: the sign of the gradient's running mean (Bernstein et al. 2018,
    arXiv 1802.04434).  Half of Adam's memory."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = _MOMENTUM
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                state["mean"].lerp_(parameter.grad, 1 - group["momentum"])
                parameter.add_(state["mean"].sign(), alpha=-group["lr"])


class Muon(torch.optim.Optimizer):
    """Matrices move by their momentum with its singular values made equal (Jordan et al. 2024);
    everything else by Adam.

    A step on a matrix is as large, root mean square over entries, as one of Adam at the same rate
    would be: rates carry over.  The products it takes do not depend on the batch, so it pays for
    large ones.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = _MOMENTUM
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.dim() == 2:
                    self._matrix(parameter, group)
                else:
                    self._adam(parameter, group)

    def _matrix(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        grad, mean = parameter.grad, state["mean"]
        assert grad is not None
        mean.lerp_(grad, 1 - group["momentum"])
        ahead = torch.lerp(grad, mean, group["momentum"])  # Nesterov
        direction = orthogonalised(ahead)
        # Entries of a matrix with min(shape) singular values of 1 are so large on average.
        size = (min(parameter.shape) / parameter.numel()) ** 0.5
        parameter.add_(direction, alpha=-0.2 * group["lr"] / size)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        grad = parameter.grad
        assert grad is not None
        first, second = _BETAS
        state["step"] += 1
        state["mean"].lerp_(grad, 1 - first)
        state["square"].lerp_(grad * grad, 1 - second)
        mean = state["mean"] / (1 - first ** state["step"])
        square = state["square"] / (1 - second ** state["step"])
        parameter.addcdiv_(mean, square.sqrt().add_(1e-8), value=-group["lr"])


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1 by five rounds of a quintic iteration.

    They end between about 0.7 and 1.2, which is as good for an optimiser as 1.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp_min(1e-12)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
