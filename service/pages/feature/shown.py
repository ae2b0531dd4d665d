"""Everything that is shown of one feature, read by the functions that REST calls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from monosemy.interp.judge_test.result import JudgeTestBrief
from monosemy.specs.rest.features import ExplanationDetail, FeaturePage
from service.pages.feature.examples import Drawing, GroupShown, group_titles, shown_groups
from service.pages.feature.places import FeaturePlaces, feature_places
from service.pages.feature.scores import ScoreShown, shown_score
from service.pages.format import fixed, interval

_DOES = {"explaining": "explains", "detecting": "detects"}
_HOW = {"chance": "at chance", "weak": "weakly", "good": "well"}


@dataclass(frozen=True)
class ExplanationShown:
    explanation: ExplanationDetail
    scores: list[ScoreShown]
    judges: list[str]
    """How good those who wrote and judged it are, a sentence each."""

    @property
    def told_apart(self) -> bool | None:
        """By any of its scores; None where none has a shuffled explanation beside it."""
        known = [each.told_apart for each in self.scores if each.told_apart is not None]
        return any(known) if known else None

    @property
    def human(self) -> bool:
        return not self.explanation.judge


@dataclass(frozen=True)
class FeatureShown:
    page: FeaturePage
    explanations: list[ExplanationShown]
    groups: list[GroupShown]
    group_names: list[tuple[str, str]]
    """(name, title) of every group there is."""
    drawing: Drawing
    places: FeaturePlaces | None
    """None for an SAE of one place."""

    @property
    def tokens(self) -> int | None:
        """Tokens that were indexed."""
        count = (self.page.sae.index or {}).get("tokens")
        return count if isinstance(count, int) else None

    @property
    def nearest_by_chance(self) -> float:
        """About the largest cosine of a direction with as many random ones as the SAE has latents:
        sqrt(2 ln n / d)."""
        sae = self.page.sae
        return min(1.0, math.sqrt(2 * math.log(max(sae.d_sae, 2)) / max(sae.d_in, 1)))

    @property
    def together_by_chance(self) -> float:
        """The Jaccard index of two features that fire as often as this one, each by itself."""
        return self.page.density / (2 - self.page.density)


def shown_feature(page: FeaturePage, drawing: Drawing) -> FeatureShown:
    return FeatureShown(
        page=page,
        explanations=[shown_explanation(each) for each in page.explanations],
        groups=list(shown_groups(page.examples, page.max_activation, drawing)),
        group_names=group_titles(page.examples),
        drawing=drawing,
        places=feature_places(page),
    )


def shown_explanation(explanation: ExplanationDetail) -> ExplanationShown:
    scores = [shown_score(each) for each in explanation.scores]
    tests = [(explanation.judge, explanation.judge_test)]
    tests += [(each.judge, each.judge_test) for each in explanation.scores]
    said = [judge_words(judge, test) for judge, test in tests if test is not None]
    return ExplanationShown(explanation, scores, list(dict.fromkeys(said)))


def judge_words(judge: str, test: JudgeTestBrief) -> str:
    """How often the judge was right where the answer is known, beside what guessing gives."""
    failed = f", {test.n_failed} without a usable answer" if test.n_failed else ""
    return (
        f"{judge} {_DOES.get(test.role, test.role)} {_HOW.get(test.verdict, test.verdict)}: "
        f"{fixed(test.accuracy)} right {interval(test.low, test.high)}, n {test.n}{failed}; "
        f"guessing {fixed(test.chance)}"
    )
