"""Which words adding a latent to the host model's stream makes likelier.  Needs torch.

TokenChange of Gur-Arieh et al. (arXiv 2501.08319, section 3): the latent's direction is added in
texts that have nothing to do with it, and the next token's distribution compared with the one
before.  The strength is tuned as for the intervention scorer, so that all latents change equally
much; a token's rank is its part in that change.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.effects import PromptEffects
from monosemy.models.rows import Ids

KL = 1.0
"""Nats by which the mean next-token distribution is moved."""
TOKENS = 30
"""Tokens that are given at most."""


class TokenChanges:
    """(latent, prompts) to the tokens that it makes likelier there, those that gain most first.

    Safe to call from several threads: the host model works for one at a time.
    """

    def __init__(self, hosted: HostedSAE, kl: float = KL, tokens: int = TOKENS) -> None:
        self.hosted, self.kl, self.tokens = hosted, kl, tokens
        self._lock = threading.Lock()
        self._effects: PromptEffects | None = None

    def __call__(self, latent: int, prompts: Sequence[Ids]) -> list[str]:
        """Texts of single tokens.  ``DataError`` for a latent that no strength makes felt, and
        without prompts."""
        with self._lock:
            if self._effects is None or self._effects.prompts != prompts:
                self._effects = PromptEffects(self.hosted, prompts)  # keeps the clean predictions
            effects = self._effects
            addition, _ = effects.tuned(latent, self.kl)
            gain_V = gains(effects.predictions(addition), effects.clean)
        names = self.hosted.host.token_bytes()
        gained, ids = gain_V.topk(min(2 * self.tokens, len(gain_V)))
        texts = [
            text
            for gain, token in zip(gained.tolist(), ids.tolist(), strict=True)
            if gain > 0 and (text := _text(names.pieces([token])))
        ]
        if not texts:
            raise DataError(f"Latent {latent} makes no token likelier that is a text.")
        return texts[: self.tokens]


def gains(edited_PV: Tensor, clean_PV: Tensor) -> Tensor:
    """Each token's part in the mean KL(edited || clean) of some prompts, nats, ``[V]``.

    Both are log probabilities.  The parts sum to the KL; those of tokens that got likelier are
    above 0.
    """
    return (edited_PV.exp() * (edited_PV - clean_PV)).nan_to_num().mean(0)


def _text(pieces: list[str]) -> str:
    """Empty for part of a character, for white space and for an id without a token."""
    (text,) = pieces
    return text if text.strip() and "\ufffd" not in text else ""
