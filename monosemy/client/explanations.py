"""Explanations of features, and how well they do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from monosemy import arguments
from monosemy.client.library import SaeReference, feature_path
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs import ExplanationSpec, ScoringSpec, parse_part
from monosemy.specs.rest.explanations import (
    ExplainNow,
    ExplanationView,
    GivenScore,
    HumanExplanation,
    NearExplanations,
    ScoreNow,
    ScoreView,
    VoteBody,
)
from monosemy.specs.rest.features import ScoreDetail, Votes
from monosemy.specs.rest.provenance import ExplanationProvenance, JudgedText, PromptView
from monosemy.specs.rest.runs import RunFamily

ExplanationReference = uuid.UUID | str | ExplanationView


class Explanations:
    """``client.explanations``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self, sae: SaeReference, index: int, limit: int | None = None
    ) -> Iterator[ExplanationView]:
        """Of one feature, the newest first, each with its scores, votes and provenance."""
        path = f"{feature_path(sae, index)}/explanations"
        return listed(self._http, ExplanationView, path, limit)

    def get(self, explanation: ExplanationReference) -> ExplanationView:
        return self._http.call(ExplanationView, "GET", _explanation_path(explanation))

    def add(
        self, sae: SaeReference, index: int, text: str, label: str | None = None
    ) -> ExplanationView:
        """Stores an explanation of one's own; an equal one is stored once."""
        body = parse_part(HumanExplanation, {"text": text, "label": label})
        path = f"{feature_path(sae, index)}/explanations"
        # Equal ones are stored once, so that it may be sent again.
        return self._http.call(ExplanationView, "POST", path, body, repeatable=True)

    def ask(
        self,
        sae: SaeReference,
        index: int,
        explanation: ExplanationSpec | Mapping[str, Any] | None = None,
    ) -> RunFamily:
        """Has the judge explain the feature, by a run of its own: ``client.runs.wait`` it."""
        body = parse_part(ExplainNow, {"explanation": explanation or {}})
        path = f"{feature_path(sae, index)}/explanations"
        return self._http.call(RunFamily, "POST", path, body, headers=_once(), repeatable=True)

    def near(
        self, explanation: ExplanationReference, *, sae: str | None = None, limit: int = 10
    ) -> NearExplanations:
        """Explanations that mean nearly the same, of one SAE or all."""
        path = f"{_explanation_path(explanation)}/nearest"
        return self._http.call(NearExplanations, "GET", path, sae=sae, limit=limit)

    def provenance(self, explanation: ExplanationReference) -> ExplanationProvenance:
        """Prompt, judge, texts shown, index, SAE, host model and text behind it, with digests."""
        path = f"{_explanation_path(explanation)}/provenance"
        return self._http.call(ExplanationProvenance, "GET", path)

    def prompt(self, name: str, *, version: int | None = None) -> PromptView:
        """The exact words that judges are asked with, by default of the newest version."""
        path = f"/prompts/{segment(name)}"
        return self._http.call(PromptView, "GET", path, version=version)

    def vote(self, explanation: ExplanationReference, value: Literal[-1, 0, 1]) -> Votes:
        """1 for it, -1 against it, 0 takes the vote back."""
        body = VoteBody(value=value)
        return self._http.call(Votes, "PUT", f"{_explanation_path(explanation)}/vote", body)

    def delete(self, explanation: ExplanationReference) -> None:
        """With its scores and votes."""
        self._http.delete(_explanation_path(explanation))


class Scores:
    """``client.scores``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self,
        sae: SaeReference,
        index: int,
        *,
        scorer: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ScoreView]:
        """Of all the feature's explanations, the newest first, with every judgement."""
        path = f"{feature_path(sae, index)}/scores"
        return listed(self._http, ScoreView, path, limit, scorer=scorer)

    def get(self, sae: SaeReference, index: int, score: uuid.UUID | ScoreDetail) -> ScoreView:
        """With everything that it was computed from."""
        return self._http.call(ScoreView, "GET", _score_path(sae, index, score))

    def judgements(
        self,
        sae: SaeReference,
        index: int,
        score: uuid.UUID | ScoreDetail,
        *,
        outcome: Literal["right", "wrong", "failed"] | None = None,
        limit: int | None = None,
    ) -> Iterator[JudgedText]:
        """The single judgements of a score with the texts that were judged."""
        path = f"{_score_path(sae, index, score)}/judgements"
        return listed(self._http, JudgedText, path, limit, outcome=outcome)

    def ask(
        self,
        sae: SaeReference,
        index: int,
        scoring: ScoringSpec | Mapping[str, Any] | None = None,
        explanation: ExplanationReference | None = None,
    ) -> RunFamily:
        """Scores an explanation of the feature, by default its newest, by a run of its own."""
        wanted = None if explanation is None else _explanation_id(explanation)
        body = parse_part(ScoreNow, {"scoring": scoring or {}, "explanation": wanted})
        path = f"{feature_path(sae, index)}/scores"
        return self._http.call(RunFamily, "POST", path, body, headers=_once(), repeatable=True)

    def add(
        self,
        explanation: ExplanationReference,
        scorer: Literal["detection", "fuzzing"],
        source: str,
        judgements: Sequence[Mapping[str, Any]],
    ) -> ScoreView:
        """Stores a score that another tool came to, from its single judgements."""
        judged = arguments.several("judgements", judgements, "a list of judgements")
        given = {"scorer": scorer, "source": source, "judgements": judged}
        path = f"{_explanation_path(explanation)}/scores"
        body = parse_part(GivenScore, given)
        return self._http.call(ScoreView, "POST", path, body, repeatable=True)


def _explanation_id(explanation: ExplanationReference) -> str:
    return str(explanation.id if isinstance(explanation, ExplanationView) else explanation)


def _explanation_path(explanation: ExplanationReference) -> str:
    return f"/explanations/{segment(_explanation_id(explanation))}"


def _score_path(sae: SaeReference, index: int, score: uuid.UUID | ScoreDetail) -> str:
    identity = score.id if isinstance(score, ScoreDetail) else score
    return f"{feature_path(sae, index)}/scores/{segment(str(identity))}"


def _once() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}
