"""/saes, and an SAE as a whole: /saes/{sae}"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Query

from monosemy.figures import density, number, plural
from monosemy.specs.rest.benchmarks import BenchmarkRow
from monosemy.specs.rest.comparisons import ComparisonView
from monosemy.specs.rest.features import FeatureSummary
from monosemy.specs.rest.reports import ToldApart
from monosemy.specs.rest.saes import Distribution, SaeDetail
from monosemy.training.page import CHARTS
from service.benchmarks.endpoints import list_all as list_results
from service.comparisons.endpoints import list_all as list_comparisons
from service.edge.context import ContextDep, SessionDep
from service.features.endpoints import list_all as list_features
from service.features.filters import Density, check_densities
from service.features.listing import FeatureFilter, usual_scorer
from service.kit.pagination import CursorParam
from service.pages.listed import along
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.render import Links, LinksDep
from service.pages.sae_commands import commands
from service.pages.sae_figures import Evaluation, Listed, evaluation, grouped
from service.pages.sae_places import Places, hooked_places
from service.pages.views.sae_training import Drawn, draw, readings_of
from service.reports.service import report_summary
from service.saes.endpoints import SaeReference, list_all, show, show_distribution
from service.saes.repository import find_sae

router = PageRouter()

_SAES = 200
"""On one page; they are grouped within it."""
_FIRST = 25
_POINTS = 120


@dataclass(frozen=True)
class Saes:
    groups: dict[str, dict[str, list[Listed]]]
    """By host model and site."""
    models: list[str]
    model: str | None
    next_cursor: str | None


@router.page("/saes", "saes.html", nav=Nav("SAEs", 10, "s"))
def saes(
    session: SessionDep,
    model: Annotated[str | None, Query(max_length=400)] = None,
    cursor: CursorParam = None,
) -> Saes:
    page = list_all(session, model=model, counts=True, limit=_SAES, cursor=cursor)
    groups = grouped(page.items)
    return Saes(groups, list(groups), model, page.next_cursor)


@dataclass(frozen=True)
class Bars:
    """A histogram as it is drawn."""

    counts: list[int]
    edges: list[float]
    titles: list[str]
    links: list[str]
    ticks: list[tuple[float, str]]
    says: str


@dataclass(frozen=True)
class SaePage:
    sae: SaeDetail
    evaluation: Evaluation
    distribution: Distribution | None
    density: Bars | None
    maximum: Bars | None
    curve: Drawn | None
    """FVU in training, of the SAE and of its twin."""
    scorer: str | None
    """The one that scored the most features; the best by it are shown first."""
    features: list[FeatureSummary]
    along: dict[str, Any]
    """Their order and filter: it goes along to a feature."""
    more: bool
    told_apart: list[ToldApart]
    comparisons: list[ComparisonView]
    measured: list[BenchmarkRow]
    """Its newest results of benchmarks."""
    min_density: float | None
    max_density: float | None
    commands: list[tuple[str, str]]
    places: Places


@router.page("/saes/{sae}", "sae.html", script="pages/sae.js")
def sae_page(
    session: SessionDep,
    context: ContextDep,
    links: LinksDep,
    sae: SaeReference,
    min_density: Density = None,
    max_density: Density = None,
) -> SaePage:
    check_densities(min_density, max_density)
    detail = show(session, context, sae)
    counted = show_distribution(session, sae) if detail.index is not None else None
    scorer = usual_scorer(detail.features.scorers) if detail.features.scorers else None
    wanted = FeatureFilter(min_density=min_density, max_density=max_density)
    if scorer:
        wanted = replace(wanted, sort="margin", order="desc", scorer=scorer)
    features = list_features(session, sae, wanted, limit=_FIRST)
    row, _ = find_sae(session, sae)
    _, mine = readings_of(session, detail, _POINTS)
    return SaePage(
        sae=detail,
        evaluation=evaluation(detail.metrics),
        distribution=counted,
        density=_density(detail, counted, links) if counted else None,
        maximum=_maximum(counted) if counted else None,
        curve=draw(CHARTS[0], [each.flat() for each in mine.readings]) if mine else None,
        scorer=scorer,
        features=features.items,
        along=along(wanted),
        more=features.next_cursor is not None,
        told_apart=report_summary(session, row).items if detail.features.scored else [],
        comparisons=list_comparisons(session, sae, limit=10).items,
        measured=list_results(session, sae, limit=10).items,
        min_density=min_density,
        max_density=max_density,
        commands=commands(detail),
        places=hooked_places(detail),
    )


def _density(sae: SaeDetail, found: Distribution, links: Links) -> Bars:
    edges = found.density.edges
    path = f"/saes/{sae.name}/features"
    filtered = [links.url(path, min_density=a, max_density=b) for a, b in itertools.pairwise(edges)]
    shown = [f"{density(a)} to {density(b)}" for a, b in itertools.pairwise(edges)]
    return _bars("by density", found.density.counts, edges, shown, filtered)


def _maximum(found: Distribution) -> Bars:
    edges = found.maximum.edges
    shown = [f"{number(a)} to {number(b)}" for a, b in itertools.pairwise(edges)]
    return _bars("by strongest activation", found.maximum.counts, edges, shown, [])


def _bars(
    what: str, counts: list[int], edges: list[float], shown: list[str], links: list[str]
) -> Bars:
    titles = [
        f"{plural(count, 'feature')}: {each}" for count, each in zip(counts, shown, strict=True)
    ]
    ticks = []
    if edges:
        first, last = math.log10(edges[0]), math.log10(edges[-1])
        for power in range(math.ceil(first), math.floor(last) + 1):
            share = (power - first) / (last - first)
            ticks.append((share, number(10.0**power) if power >= 0 else f"10{_power(power)}"))
    says = f"Features {what}: {'; '.join(titles)}"
    return Bars(counts, edges, titles, links, ticks, says)


def _power(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
