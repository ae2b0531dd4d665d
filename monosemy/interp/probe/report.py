"""What a probe is worth on features that it never saw, beside what words alone are worth."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from monosemy.interp.probe.items import JudgedItem
from monosemy.interp.probe.linear import Floats
from monosemy.interp.probe.validation import Bools, Tested
from monosemy.interp.statistics.bootstrap import Bootstrapped, cluster_bootstrap
from monosemy.interp.statistics.calibration import brier_score, expected_calibration_error
from monosemy.interp.statistics.ranks import Area, area_under_roc, auroc
from monosemy.interp.statistics.rates import Rate, rate_of

RESAMPLES = 1000


@dataclass(frozen=True)
class ProbeReport:
    """All on held-out features; intervals are 95 %, clustered by feature."""

    n: int
    n_features: int
    share_yes: float
    """Of the expensive judge's answers."""
    probe: Area
    baseline: Area
    """TF-IDF on the same splits."""
    gain: Bootstrapped
    """AUROC of the probe less that of TF-IDF, features drawn whole."""
    agreement: Rate
    """Items on which the probe alone says what the judge said."""
    baseline_agreement: Rate
    repeat_agreement: Rate
    """Items on which the judge said the same again; value None where it was not asked again."""
    brier: float
    calibration_error: float
    wanted: float
    """The agreement that the band was chosen for, on features of the training side."""
    escalated: Rate
    """Items left to the judge: what a judgement costs against the judge alone."""
    agreement_escalating: Rate
    """With the judge where it is asked; there it agrees with itself by definition."""
    agreement_kept: Rate
    """Among the items that the probe answers itself."""
    views: tuple[str, ...]
    """What each fold chose to read."""

    @property
    def serves(self) -> bool:
        """Whether held-out features show, beyond chance, that it beats words alone and a coin."""
        return self.gain.low > 0 and self.probe.low > 0.5

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.probe.value is None or self.baseline.value is None:
            return "The judge gave one answer throughout, so nothing can be said of the probe."
        figures = (
            f"AUROC {self.probe.value:.2f} against {self.baseline.value:.2f} of TF-IDF on "
            f"held-out features (difference {self.gain.low:+.2f} to {self.gain.high:+.2f})"
        )
        if self.serves:
            return f"The probe beats TF-IDF: {figures}."
        return f"The probe is not shown to beat TF-IDF, and does not serve: {figures}."

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, with the verdict."""
        return {**asdict(self), "serves": self.serves, "verdict": self.verdict}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> ProbeReport:
        """What ``as_dict`` wrote; the verdict is drawn anew from the figures."""
        kinds: dict[str, Any] = {"probe": Area, "baseline": Area, "gain": Bootstrapped}
        rates = ("agreement", "baseline_agreement", "repeat_agreement", "escalated")
        kinds |= dict.fromkeys((*rates, "agreement_escalating", "agreement_kept"), Rate)
        values = {name: found[name] for name in cls.__dataclass_fields__}
        values |= {name: kind(**found[name]) for name, kind in kinds.items()}
        return cls(**{**values, "views": tuple(found["views"])})


def report_of(
    items: Sequence[JudgedItem], probe: Tested, words: Tested, wanted: float, seed: int = 0
) -> ProbeReport:
    """Figures of ``probe`` and of TF-IDF's ``words``, tested on the same folds."""
    answer_N = np.array([item.answer for item in items])
    features = [item.feature for item in items]
    right_N = (probe.p_N >= 0.5) == answer_N
    kept = np.flatnonzero(~probe.unsure_N)
    again = [item for item in items if item.repeat is not None]
    return ProbeReport(
        n=len(items),
        n_features=len(set(features)),
        share_yes=float(answer_N.mean()),
        probe=_area(probe.place_N, answer_N, features),
        baseline=_area(words.place_N, answer_N, features),
        gain=cluster_bootstrap(
            _difference,
            [probe.place_N, words.place_N, answer_N],
            features,
            bounds=(-1.0, 1.0),
            resamples=RESAMPLES,
            seed=seed,
        ),
        agreement=rate_of(right_N.tolist(), features),
        baseline_agreement=rate_of(((words.p_N >= 0.5) == answer_N).tolist(), features),
        repeat_agreement=rate_of(
            [item.repeat == item.answer for item in again], [item.feature for item in again]
        ),
        brier=brier_score(probe.p_N, answer_N),
        calibration_error=expected_calibration_error(probe.p_N, answer_N),
        wanted=wanted,
        escalated=rate_of(probe.unsure_N.tolist(), features),
        agreement_escalating=rate_of((right_N | probe.unsure_N).tolist(), features),
        agreement_kept=rate_of(right_N[kept].tolist(), [features[i] for i in kept]),
        views=tuple(choice.view for choice in probe.choices),
    )


def _area(value_N: Floats, answer_N: Bools, features: Sequence[Hashable]) -> Area:
    groups = np.array(features)
    return area_under_roc(
        value_N[answer_N],
        value_N[~answer_N],
        groups[answer_N].tolist(),
        groups[~answer_N].tolist(),
    )


def _difference(first_N: Floats, second_N: Floats, answer_N: Bools) -> float:
    if answer_N.all() or not answer_N.any():
        return float("nan")
    return auroc(first_N[answer_N], first_N[~answer_N]) - auroc(
        second_N[answer_N], second_N[~answer_N]
    )
