"""Scores of others on the same judgements, by hand, and ours where the definitions agree.

delphi (``log/result_analysis.py`` at 3c2e139) pools the judgements of all latents and reports
precision, recall, F1, "accuracy" = (TPR + TNR) / 2, and the AUC of probabilities.  OpenAI's
``ev_correlation_score`` is Pearson's correlation over the tokens of all sequences put together.
"""

import math
from itertools import pairwise

import numpy as np
import pytest

from monosemy.interp.scorers.auroc import auroc
from monosemy.interp.scorers.balanced_accuracy import balanced_accuracy
from monosemy.interp.scorers.result import Judgement
from monosemy.interp.statistics.correlation import pearson, pearson_interval
from monosemy.interp.statistics.natural import precision_at
from monosemy.interp.tiers import ACTIVATING, RANDOM

# (latent, activating, prediction, probability), as delphi's score files hold them; None is a
# batch that could not be parsed, which delphi leaves out too.
FIXTURE = [
    (0, True, True, 0.9),
    (0, True, True, 0.7),
    (0, True, False, 0.4),
    (0, True, None, None),
    (0, False, False, 0.1),
    (0, False, True, 0.6),
    (0, False, False, 0.3),
    (1, True, True, 0.8),
    (1, True, False, 0.3),
    (1, False, False, 0.2),
    (1, False, False, 0.4),
    (1, False, None, None),
]


def _judgements(latents: set[int]) -> list[Judgement]:
    return [
        Judgement(
            row=i,
            position=0,
            document=i,
            tier=ACTIVATING if activating else RANDOM,
            group=0 if activating else RANDOM,
            truth=activating,
            answer=prediction,
            value=probability,
        )
        for i, (latent, activating, prediction, probability) in enumerate(FIXTURE)
        if latent in latents
    ]


def test_delphis_pooled_figures() -> None:
    """By hand: TP 3, FN 2, TN 4, FP 1."""
    pooled = balanced_accuracy(_judgements({0, 1}), RANDOM)
    counts = pooled.details["confusion"]
    assert counts == {
        "true_positives": 3,
        "false_negatives": 2,
        "true_negatives": 4,
        "false_positives": 1,
    }
    precision, recall = 3 / 4, 3 / 5
    f1 = 2 * precision * recall / (precision + recall)
    assert f1 == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert pooled.value == pytest.approx((3 / 5 + 4 / 5) / 2)
    assert pooled.details["tpr"]["value"] == recall
    # delphi's precision is that at the share of positives among its own examples.
    tpr, fpr = pooled.details["tpr"]["value"], 1 - pooled.details["tnr"]["value"]
    assert precision_at(tpr, fpr, 5 / 10) == pytest.approx(precision)


def test_delphi_pools_where_we_score_each_latent() -> None:
    """A mean over latents is another figure: latent 0 has TPR 2/3 and TNR 2/3, latent 1 has 1/2
    and 1.  delphi counts no failures (its count is always 0); we bound them."""
    first, second = (balanced_accuracy(_judgements({latent}), RANDOM) for latent in (0, 1))
    assert first.value == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert second.value == pytest.approx((1 / 2 + 1) / 2)
    assert first.worst_case == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert second.worst_case == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_delphis_auc() -> None:
    """By hand, positives .9 .7 .4 .8 .3 against negatives .1 .6 .3 .2 .4: above 5, 5, 3 1/2, 5 and
    2 1/2 of five; and the trapezoids under delphi's curve of thresholds come to the same."""
    ours = auroc(_judgements({0, 1}), RANDOM)
    assert ours.value == pytest.approx((5 + 5 + 3.5 + 5 + 2.5) / 25)
    judged = [(p, activating) for _, activating, _, p in FIXTURE if p is not None]
    curve = [(0.0, 0.0)]
    for threshold in sorted({p for p, _ in judged}, reverse=True):
        called_yes = [activating for p, activating in judged if p >= threshold]
        curve.append(((len(called_yes) - sum(called_yes)) / 5, sum(called_yes) / 5))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(curve))
    assert ours.value == pytest.approx(area)


def test_openais_correlation_score() -> None:
    """Two sequences of three tokens, real 0 0 3 | 1 0 2, simulated 0 1 2 | 0 0 3: over all six,
    means 1 and 1; products sum to -1*-1 + 0 + 2*1 + 0 + -1*-1 + 1*2 = 6; squares to 1+1+4+0+1+1 = 8
    and 1+0+1+1+1+4 = 8; hence 6/8."""
    real = [(0.0, 0.0, 3.0), (1.0, 0.0, 2.0)]
    simulated = [(0.0, 1.0, 2.0), (0.0, 0.0, 3.0)]
    x, y = np.concatenate(real), np.concatenate(simulated)
    ours = pearson_interval(x, y, [0] * 3 + [1] * 3)
    assert ours.value == pytest.approx(0.75)
    # Not the mean over sequences: those are .866 and .866.
    alone = [np.corrcoef(a, b)[0, 1] for a, b in zip(real, simulated, strict=True)]
    assert alone == pytest.approx([math.sqrt(3) / 2, math.sqrt(3) / 2])
    # Linear calibration of the simulation leaves it as it is.
    assert pearson(x, 10 * y - 3) == pytest.approx(0.75)
