"""/saes/{sae}/map: all features of an SAE as points, on two of their measured quantities or in the
layout of its decoder rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from fastapi import Query

from monosemy.index.evidence_label import LABEL_KINDS
from monosemy.interp.heading import HEADINGS
from monosemy.specs.rest.features import (
    FeatureColumn,
    FeatureSort,
    FeatureSummary,
    KindColumn,
    LayoutColumn,
    MeasuredColumn,
)
from monosemy.specs.rest.layouts import LayoutView
from monosemy.specs.rest.saes import SaeDetail
from service.edge.context import ContextDep, SessionDep
from service.features.endpoints import list_all as list_features
from service.features.filters import Scorer, Tagged, Words
from service.features.listing import FIRST_SCORER, FeatureFilter, usual_scorer
from service.kit.errors import Conflict
from service.layouts.endpoints import show as show_layout
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference, show
from service.tags.endpoints import list_all as list_tags

router = PageRouter()

AxisName = Literal[MeasuredColumn, LayoutColumn]
ColourName = Literal[MeasuredColumn, KindColumn, "explained", "none"]
_ROWS = 25
_TAGS = 100


@dataclass(frozen=True)
class Axis:
    name: str
    scale: Literal["linear", "log", "symlog", "layout"]
    """`layout`: no units, and the same in both directions."""


AXES: dict[FeatureColumn, Axis] = {
    "density": Axis("density (share of tokens)", "log"),
    "maximum": Axis("maximum activation", "log"),
    "mean": Axis("mean activation", "log"),
    "score": Axis("score", "linear"),
    "top_token_share": Axis("share of its commonest token", "linear"),
    "distinct_tokens": Axis("different tokens", "log"),
    "logit_kurtosis": Axis("kurtosis on logits", "symlog"),
    "explained": Axis("whether it is explained", "linear"),
}
_LAYOUT: dict[FeatureColumn, Axis] = {
    "layout_x": Axis("layout 1", "layout"),
    "layout_y": Axis("layout 2", "layout"),
}


@dataclass(frozen=True)
class Kinds:
    name: str
    of: list[str]
    quiet: str | None = None
    """The kind that most features are of, and that is drawn so."""


_KINDS: dict[KindColumn, Kinds] = {
    "tag": Kinds("tag", []),  # they come with the column
    "heading": Kinds("what explanations show", list(HEADINGS), HEADINGS[0]),
    "evidence_kind": Kinds("kind of evidence", [name for name, _ in LABEL_KINDS], "mixed"),
}
_SORTS: dict[str, FeatureSort] = {
    "density": "density",
    "maximum": "max_activation",
    "score": "score",
}


@dataclass(frozen=True)
class FeatureMap:
    sae: SaeDetail
    x: AxisName
    y: AxisName
    colour: ColourName
    scorer: str
    q: str | None
    tag: str | None
    axes: dict[str, str]
    colours: dict[str, str]
    scorers: list[str]
    tags: list[str]
    features: list[FeatureSummary]
    """The first of the table beside the map: those that match, the largest on its axes first."""
    more: bool
    sorted_by: str | None
    layout: LayoutView | None
    """None where there is none to show; ``no_layout`` says why."""
    no_layout: Conflict | None
    table: dict[str, Any]
    """The query of the whole table."""
    data: dict[str, Any]
    """What the script is given."""


@router.page("/saes/{sae}/map", "map.html", script="pages/map.js")
def feature_map(
    session: SessionDep,
    context: ContextDep,
    sae: SaeReference,
    x: Annotated[AxisName, Query(description="What lies across.")] = "density",
    y: Annotated[AxisName, Query(description="What lies upwards.")] = "maximum",
    colour: Annotated[ColourName, Query(description="What colours say.")] = "top_token_share",
    scorer: Scorer = None,
    q: Words = None,
    tag: Tagged = None,
) -> FeatureMap:
    detail = show(session, context, sae)
    layout, no_layout = _layout(context, session, sae)
    if layout is None:  # other axes
        x, y = ("density" if x in _LAYOUT else x), ("maximum" if y in _LAYOUT else y)
    shown_scorer = scorer or usual_scorer(detail.features.scorers)
    sort = _SORTS.get(x) or _SORTS.get(y)
    wanted = FeatureFilter(
        sort=sort or "index", order="desc" if sort else "asc", scorer=shown_scorer, text=q, tag=tag
    )
    page = list_features(session, sae, wanted, limit=_ROWS)
    usual = FeatureFilter(scorer=FIRST_SCORER)
    names = ("sort", "order", "scorer", "tag")
    kept = {n: getattr(wanted, n) for n in names if getattr(wanted, n) != getattr(usual, n)}
    tags = [each.tag for each in list_tags(session, sae, limit=_TAGS).items]
    axes = {name: AXES[name].name for name in get_args(MeasuredColumn)}
    offered = {**AXES, **(_LAYOUT if layout is not None else {})}
    return FeatureMap(
        sae=detail,
        x=x,
        y=y,
        colour=colour,
        scorer=shown_scorer,
        q=q,
        tag=tag,
        axes={**axes, **({n: a.name for n, a in _LAYOUT.items()} if layout is not None else {})},
        colours={
            "none": "nothing",
            **{name: kinds.name for name, kinds in _KINDS.items()},
            "explained": AXES["explained"].name,
            **axes,
        },
        scorers=sorted({FIRST_SCORER, shown_scorer, *detail.features.scorers}),
        tags=sorted({*tags, *([tag] if tag else [])}),
        features=page.items,
        more=page.next_cursor is not None,
        sorted_by=sort,
        layout=layout,
        no_layout=no_layout,
        table={**kept, "q": q},
        data={
            "sae": detail.name,
            "d_sae": detail.d_sae,
            "indexed": detail.index is not None,
            "axes": {name: asdict(axis) for name, axis in offered.items()},
            "kinds": {name: asdict(kinds) for name, kinds in _KINDS.items()},
        },
    )


def _layout(
    context: ContextDep, session: SessionDep, sae: str
) -> tuple[LayoutView | None, Conflict | None]:
    """(the layout, why there is none to show)"""
    try:
        return show_layout(context, session, sae), None
    except Conflict as none:
        return None, none
