"""What a graph explains: logits, differences of logits, or a direction of the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.models import sites as kinds
from monosemy.models.sites import Site, parse_site


@dataclass(frozen=True)
class Goal:
    """A number that the host makes at one token: ``vector . value there (+ constant)``.

    Logits are centred (less the mean of all), and told before a soft cap.
    """

    label: str
    weight: float
    """How much it counts in influence: a token's probability, 1 of what is no token."""
    vector_D: Tensor
    position: int
    stream: int | None = None
    """None: it reads behind the last norm.  Otherwise the stream before block n (``n_layers``:
    behind the last)."""
    constant: float = 0.0
    token: int | None = None
    """The token whose logit it is."""
    probability: float | None = None


def top_logits(prompt: ReplacedPrompt, mass: float = 0.95, most: int = 10) -> list[Goal]:
    """The likeliest tokens: the fewest whose probabilities add up to ``mass``, ``most`` at most."""
    p_V = prompt.logits_V.double().softmax(-1)
    values, tokens = p_V.topk(min(most, len(p_V)))
    enough = int((values.cumsum(0) < mass).sum()) + 1
    return token_logits(prompt, tokens[:enough].tolist())


def token_logits(prompt: ReplacedPrompt, tokens: Sequence[int]) -> list[Goal]:
    """The logits of these tokens behind the last one, weighted by their probabilities."""
    p_V = prompt.logits_V.double().softmax(-1)
    goals = []
    for token in dict.fromkeys(tokens):
        _check_token(prompt, token)
        vector, constant = _unembedded(prompt, {token: 1.0})
        p = float(p_V[token])
        goals.append(
            Goal(_text(prompt, token), p, vector, prompt.length - 1, None, constant, token, p)
        )
    if not goals:
        raise DataError("A graph needs one logit or more.")
    return goals


def logit_difference(prompt: ReplacedPrompt, token: int, other: int) -> Goal:
    """The logit of a token less that of another, behind the last token of the prompt."""
    for each in (token, other):
        _check_token(prompt, each)
    if token == other:
        raise DataError("The difference of a token's logit and itself is 0.")
    vector, constant = _unembedded(prompt, {token: 1.0, other: -1.0})
    label = f"{_text(prompt, token)} - {_text(prompt, other)}"
    return Goal(label, 1.0, vector, prompt.length - 1, None, constant)


def stream_direction(
    prompt: ReplacedPrompt, site: str, vector_D: Tensor, position: int, label: str = "direction"
) -> Goal:
    """The stream at a site (``hook_resid_pre`` or ``hook_resid_post``) along any direction.

    ``DataError`` for another site, a vector of another width, or a token that is not there.
    """
    place: Site = parse_site(site)
    if place.kind not in (kinds.RESID_PRE, kinds.RESID_POST) or place.layer >= prompt.layers:
        raise DataError(f"{site} is no stream before or behind a block of {prompt.host.name}.")
    if tuple(vector_D.shape) != (prompt.host.d_model,) or not bool(vector_D.isfinite().all()):
        raise DataError(f"A direction of {site} has {prompt.host.d_model} finite numbers.")
    if not 0 <= position < prompt.length:
        raise DataError(f"The prompt has {prompt.length} tokens, so none is number {position}.")
    boundary = place.layer + (place.kind == kinds.RESID_POST)
    vector = vector_D.detach().float().to(prompt.last_TD.device)
    return Goal(label, 1.0, vector, position, boundary)


def _unembedded(prompt: ReplacedPrompt, tokens: dict[int, float]) -> tuple[Tensor, float]:
    """(vector behind the last norm, constant) of a sum of centred logits."""
    matrix_DV, bias_V = prompt.model.unembedding, prompt.model.logit_bias
    ids = torch.tensor(list(tokens), device=matrix_DV.device)
    parts = torch.tensor(list(tokens.values()), device=matrix_DV.device)
    vector = matrix_DV[:, ids] @ parts - parts.sum() * prompt.model.mean_unembedding
    constant = float(bias_V[ids] @ parts - parts.sum() * bias_V.mean())
    return vector.to(prompt.last_TD.device), constant


def _check_token(prompt: ReplacedPrompt, token: int) -> None:
    if not 0 <= token < prompt.host.d_vocab:
        raise DataError(f"{prompt.host.name} has {prompt.host.d_vocab} tokens, none is {token}.")


def _text(prompt: ReplacedPrompt, token: int) -> str:
    return str(prompt.host.tokenizer.decode([token]))
