"""Which SAEs a page works with, and which others it offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from monosemy.specs.inference.activations import MAX_SAES
from monosemy.specs.rest.saes import SaeSummary
from service.kit.errors import InvalidRequest
from service.saes.endpoints import list_all
from service.saes.repository import find_sae, newest_indexed
from service.saes.views import sae_summary

OFFERED = 100
"""The newest; others are reached by their names."""


@dataclass(frozen=True)
class SaeChoices:
    """Empty where there is no SAE at all."""

    chosen: list[SaeSummary]
    others: list[SaeSummary]
    """Not chosen."""
    more: bool
    """Whether there are still others."""


def chosen_saes(session: Session, names: Sequence[str]) -> SaeChoices:
    """Those of these names, each once and all of one host model, whose other SAEs are offered;
    where none is named the newest that is indexed.  Raises ``NotFound``, and ``InvalidRequest`` for
    too many and for SAEs of several host models."""
    chosen: list[SaeSummary] = []
    for name in names:
        summary = sae_summary(*find_sae(session, name))
        if all(summary.id != each.id for each in chosen):
            chosen.append(summary)
    if len(chosen) > MAX_SAES:
        raise InvalidRequest([("sae", f"at most {MAX_SAES} SAEs read a text at once")])
    model = chosen[0].model.name if chosen else None
    for each in chosen:
        if each.model.name != model:
            raise InvalidRequest(
                [("sae", f"the host model of '{each.name}' is '{each.model.name}', not '{model}'")]
            )
    page = list_all(session, model, limit=OFFERED)
    if not chosen:
        chosen = _first(session, page.items)
    same = [each for each in page.items if each.model.name == chosen[0].model.name]
    others = [each for each in same if all(each.id != one.id for one in chosen)]
    return SaeChoices(chosen, others, page.next_cursor is not None)


def one_sae(session: Session, name: str | None) -> SaeChoices:
    """The SAE of this name, else the newest that is indexed; the others are of every host model."""
    page = list_all(session, limit=OFFERED)
    chosen = (
        _first(session, page.items) if name is None else [sae_summary(*find_sae(session, name))]
    )
    others = [each for each in page.items if all(each.id != one.id for one in chosen)]
    return SaeChoices(chosen, others, page.next_cursor is not None)


def _first(session: Session, newest: Sequence[SaeSummary]) -> list[SaeSummary]:
    """The newest SAE of which is known what its features are, else the newest; none without any."""
    if any(each.index is not None for each in newest):
        return [next(each for each in newest if each.index is not None)]
    indexed = newest_indexed(session)
    return list(newest[:1]) if indexed is None else [sae_summary(*indexed)]
