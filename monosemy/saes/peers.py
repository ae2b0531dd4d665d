"""What a training step needs to know of the whole batch, wherever its tokens are.

An SAE's ``peers`` are the processes that take its steps together.  Here there are none; see
``monosemy.training.distributed`` for those that share a batch or a dictionary.  Whatever a loss
takes from the batch as a whole (its variance, a mean that enters something nonlinear, a selection
over tokens) goes through them, so that a step is the same however many processes take it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Peers:
    """A process alone."""

    processes = 1
    """Among how many processes the tokens of a batch are spread, equally many in each."""

    def variance(self, x_ND: Tensor) -> Tensor:
        """Squared distance from the batch's mean, summed over this process's tokens and averaged
        over processes: what a sum of squares over these tokens is measured in."""
        return (x_ND - x_ND.mean(0)).pow(2).sum()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes of a mean over tokens; the gradient is that of this process's."""
        return value

    def sum(self, value: Tensor) -> Tensor:
        """The sum over processes, without a gradient."""
        return value

    def least(self, value: Tensor) -> Tensor:
        """The least over processes, without a gradient."""
        return value

    def chosen(self, values_E: Tensor, total: int) -> Tensor | None:  # noqa: ARG002
        """Which of these values, of which there are at most ``total``, are among the ``total``
        largest over processes, bool ``[E]``; None where all are."""
        return None

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Makes gradients those of the whole batch; called once after each backward pass."""

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """Bounds the norm of all gradients together."""
        nn.utils.clip_grad_norm_(parameters, limit)


ALONE = Peers()
