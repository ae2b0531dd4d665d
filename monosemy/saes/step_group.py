"""What a training step needs to know of the whole batch and the whole dictionary.

An SAE's ``group`` stands for the processes that take its steps together with this one.  Here there
are none; ``monosemy.training.distributed`` has those that share a batch (``Replicas``) or a
dictionary (``Shards``).  Whatever a loss takes from the batch as a whole (its variance, a mean that
enters something nonlinear, a selection over tokens) and whatever an encoder or decoder takes from
all latents goes through them, so that a step is the same however many processes take it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class StepGroup:
    """A process alone."""

    processes = 1
    """Among how many processes the tokens of a batch are spread, equally many in each."""

    # What is spread over tokens.

    def variance(self, x_ND: Tensor) -> Tensor:
        """Squared distance from the batch's mean, summed over this process's tokens and averaged
        over processes: what a sum of squares over these tokens is measured in."""
        return (x_ND - x_ND.mean(0)).pow(2).sum()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes of a mean over tokens; the gradient is that of this process's."""
        return value

    def sum(self, value: Tensor) -> Tensor:
        """The sum over processes of a count over tokens, without a gradient."""
        return value

    def least(self, value: Tensor) -> Tensor:
        """The least over processes of a least over tokens, without a gradient."""
        return value

    def chosen(self, values_E: Tensor, total: int) -> Tensor | None:  # noqa: ARG002
        """Which of these values, of which there are at most ``total``, are among the ``total``
        largest over processes, bool ``[E]``; None where all are."""
        return None

    # What is spread over latents.

    def chosen_of_each(self, values_NK: Tensor, k: int) -> Tensor | None:  # noqa: ARG002
        """Which of each token's candidates (not negative, at most k) are among its ``k`` largest
        over all shards, bool ``[n, K]``; None where all are."""
        return None

    def combined(self, part_ND: Tensor) -> Tensor:
        """The sum over shards of what each decodes."""
        return part_ND

    def spread(self, value: Tensor) -> Tensor:
        """``value``, equal in all processes, on its way into every shard's own computation."""
        return value

    def note_dead(self, dead: Tensor) -> None:
        """Called with the indices of the dead latents here when they were looked for."""

    def dead_count(self, dead: Tensor) -> int:
        """How many latents were dead in all shards at the last look."""
        return dead.numel()

    # Gradients and readings.

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Makes gradients those of the whole batch; called once after each backward pass."""

    def clip(self, parameters: Sequence[nn.Parameter], limit: float) -> None:
        """Bounds the norm of all gradients together."""
        nn.utils.clip_grad_norm_(parameters, limit)

    def reported(self, names: Sequence[str], values: Tensor) -> Tensor:  # noqa: ARG002
        """Readings of this process, by name, made those of all."""
        return values


ALONE = StepGroup()
