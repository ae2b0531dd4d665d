"""What explainers and scorers work with: a judge, an embedder, the host model with its SAE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from monosemy.errors import DataError
from monosemy.interp.judging.judge import Judge
from monosemy.specs import Need

if TYPE_CHECKING:
    from monosemy.hosted_sae import HostedSAE

Embed = Callable[[Sequence[str]], Awaitable[npt.NDArray[np.float32]]]
"""Texts to unit vectors, ``[len(texts), width]``."""


@dataclass(frozen=True)
class Tools:
    """Those that are there; each scorer and explainer asks for what it needs."""

    judge: Judge | None = None
    embed: Embed | None = None
    hosted: HostedSAE | None = None
    """The host model with the SAE in it; only where torch is."""

    def check(self, needs: Collection[Need]) -> None:
        """Raises ``DataError`` where one of ``needs`` is missing."""
        have = {
            Need.JUDGE: self.need_judge,
            Need.HOST: self.need_hosted_sae,
            Need.EMBEDDER: self.need_embed,
        }
        for need in sorted(needs):
            have[need]()

    def need_judge(self) -> Judge:
        """Raises ``DataError`` where none is configured."""
        if self.judge is None:
            raise DataError(
                "This needs a judge, and none is configured.", "Set MONOSEMY_JUDGE_URL."
            )
        return self.judge

    def need_embed(self) -> Embed:
        """Raises ``DataError`` where there is no embedder."""
        if self.embed is None:
            raise DataError(
                "This needs the sentence embedder, and it is not there.",
                "Start the inference server (MONOSEMY_INFERENCE_URL).",
            )
        return self.embed

    def need_hosted_sae(self) -> HostedSAE:
        """Raises ``DataError`` without a host model."""
        if self.hosted is None:
            raise DataError("This needs the host model: it runs on a GPU worker.")
        return self.hosted


NONE = Tools()
"""For what needs none."""
