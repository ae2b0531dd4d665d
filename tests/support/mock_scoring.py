"""A mock judge of known hit and false-alarm rate, and graded values of known AUROC."""

from math import sqrt
from statistics import NormalDist

import numpy as np

from monosemy.interp.scorers.result import Judgement
from monosemy.interp.tiers import ACTIVATING, RANDOM


def _documents(n: int, per_document: int, first: int) -> list[int]:
    return [first + i // per_document for i in range(n)]


def _judgement(tier: str, position: int, document: int, **answers: object) -> Judgement:
    return Judgement(
        row=document,
        position=position,
        document=document,
        tier=tier,
        group=0 if tier == ACTIVATING else tier,
        truth=tier == ACTIVATING,
        **answers,  # type: ignore[arg-type]
    )


def yes_no_scoring(
    rng: np.random.Generator,
    n: int,
    tpr: float,
    fpr: float,
    per_document: int = 1,
    correlation: float = 0.0,
) -> list[Judgement]:
    """``n`` judgements of each class; those of a document share a rate drawn from a beta
    distribution (beta-binomial) such that two of them correlate by ``correlation``."""
    judgements = []
    for tier, rate, first in ((ACTIVATING, tpr, 0), (RANDOM, fpr, n)):
        documents = _documents(n, per_document, first)
        count = documents[-1] - first + 1
        rates = np.full(count, rate)
        if correlation:
            total = 1 / correlation - 1
            rates = rng.beta(rate * total, (1 - rate) * total, count)
        yes = rng.random(n) < rates[np.array(documents) - first]
        judgements += [
            _judgement(tier, i, d, answer=bool(y))
            for i, (d, y) in enumerate(zip(documents, yes, strict=True))
        ]
    return judgements


def graded_scoring(
    rng: np.random.Generator,
    m: int,
    n: int,
    area: float,
    spread: float = 1.0,
    per_document: int = 1,
    correlation: float = 0.0,
    mixed: bool = False,
) -> list[Judgement]:
    """Normal values whose AUROC is ``area``: negatives of variance 1, positives ``spread``^2.

    The values of a document share a normal term; ``mixed`` documents hold both classes.
    """
    mean = NormalDist().inv_cdf(area) * sqrt(1 + spread**2)
    documents_P = _documents(m, per_document, 0)
    documents_N = _documents(n, per_document, 0 if mixed else m)
    shared = rng.standard_normal(m + n) * sqrt(correlation)
    own = sqrt(1 - correlation)
    values_P = mean + spread * (shared[documents_P] + own * rng.standard_normal(m))
    values_N = shared[documents_N] + own * rng.standard_normal(n)
    positives = [
        _judgement(ACTIVATING, i, d, value=float(v))
        for i, (d, v) in enumerate(zip(documents_P, values_P, strict=True))
    ]
    negatives = [
        _judgement(RANDOM, i, d, value=float(v))
        for i, (d, v) in enumerate(zip(documents_N, values_N, strict=True))
    ]
    return positives + negatives
