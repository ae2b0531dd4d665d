"""What people answer: detection tests that they take, and how far they agree."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from monosemy.client.listing import listed
from monosemy.client.lists import ListReference
from monosemy.client.transport import Transport, segment
from monosemy.specs import parse_part
from monosemy.specs.rest.agreement import Agreement, AgreementOf
from monosemy.specs.rest.explanations import ExplanationView, ScoreView
from monosemy.specs.rest.labelling import LabellingItem, LabellingMode
from monosemy.specs.rest.lists import ListSummary
from monosemy.specs.rest.sittings import NewSitting, SittingAnswer, SittingProgress, SittingView

SittingReference = uuid.UUID | str | SittingView


class Sittings:
    """``client.sittings``: a person's detection tests; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def begin(
        self,
        explanation: uuid.UUID | str | ExplanationView,
        *,
        like: uuid.UUID | str | None = None,
        positives: int = 10,
        negatives: int = 10,
    ) -> SittingView:
        """Texts to be judged by the explanation alone; one that is open goes on.  ``like``: a
        detection score, whose very texts are asked again."""
        chosen = explanation.id if isinstance(explanation, ExplanationView) else explanation
        given = {
            "like": str(like) if like is not None else None,
            "positives": positives,
            "negatives": negatives,
        }
        body = parse_part(NewSitting, given)
        path = f"/explanations/{segment(chosen)}/sittings"
        return self._http.call(SittingView, "POST", path, body, repeatable=True)

    def get(self, sitting: SittingReference) -> SittingView:
        return self._http.call(SittingView, "GET", _path(sitting))

    def answer(
        self, sitting: SittingReference, number: int, answer: bool | None
    ) -> SittingProgress:
        """Whether what the explanation describes occurs in the text ``number``; None skips it."""
        body = SittingAnswer(answer=answer)
        return self._http.call(SittingProgress, "PUT", f"{_path(sitting)}/answers/{number}", body)

    def take_back(self, sitting: SittingReference, number: int) -> None:
        self._http.delete(f"{_path(sitting)}/answers/{number}")

    def end(self, sitting: SittingReference) -> ScoreView:
        """The score of the answers; texts without one count as failed."""
        path = f"{_path(sitting)}/score"
        return self._http.call(ScoreView, "POST", path, repeatable=True)

    def delete(self, sitting: SittingReference) -> None:
        """One that has not ended."""
        self._http.delete(_path(sitting))

    def waiting(
        self,
        *,
        sae: str | None = None,
        list: ListReference | None = None,
        mode: LabellingMode = "write",
        todo: bool = False,
        limit: int | None = None,
    ) -> Iterator[LabellingItem]:
        """Features of an SAE or a list that wait for the caller's explanation, vote or detection
        test; ``todo``: only those not done yet."""
        asked = {"sae": sae, "list": _name_of(list), "mode": mode, "todo": todo or None}
        return listed(self._http, LabellingItem, "/labelling", limit, **asked)

    def agreement(
        self,
        of: AgreementOf = "votes",
        *,
        sae: str | None = None,
        list: ListReference | None = None,
    ) -> Agreement:
        """How far every two people, or a person and a judge, agree on what both answered."""
        return self._http.call(Agreement, "GET", "/agreement", of=of, sae=sae, list=_name_of(list))


def _name_of(list: ListReference | None) -> str | None:
    if list is None:
        return None
    return str(list.id if isinstance(list, ListSummary) else list)


def _path(sitting: SittingReference) -> str:
    return f"/sittings/{segment(sitting.id if isinstance(sitting, SittingView) else sitting)}"
