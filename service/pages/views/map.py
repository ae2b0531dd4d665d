"""/saes/{sae}/map: all features of an SAE as points on two of their measured quantities."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from fastapi import Query

from monosemy.specs.rest.features import FeatureColumn, FeatureSort, FeatureSummary, MeasuredColumn
from monosemy.specs.rest.saes import SaeDetail
from service.edge.context import ContextDep, SessionDep
from service.features.endpoints import list_all as list_features
from service.features.filters import Scorer, Tagged, Words
from service.features.listing import FeatureFilter
from service.pages.page import PageRouter
from service.saes.endpoints import SaeReference, show
from service.tags.endpoints import list_all as list_tags

router = PageRouter()

ColourName = Literal[MeasuredColumn, "explained", "none"]
_ROWS = 25
_TAGS = 100


@dataclass(frozen=True)
class Axis:
    name: str
    scale: Literal["linear", "log", "symlog"]


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
_SORTS: dict[str, FeatureSort] = {
    "density": "density",
    "maximum": "max_activation",
    "score": "score",
}


@dataclass(frozen=True)
class FeatureMap:
    sae: SaeDetail
    x: MeasuredColumn
    y: MeasuredColumn
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
    table: dict[str, Any]
    """The query of the whole table."""
    data: dict[str, Any]
    """What the script is given."""


@router.page("/saes/{sae}/map", "map.html", script="pages/map.js")
def feature_map(
    session: SessionDep,
    context: ContextDep,
    sae: SaeReference,
    x: Annotated[MeasuredColumn, Query(description="What lies across.")] = "density",
    y: Annotated[MeasuredColumn, Query(description="What lies upwards.")] = "maximum",
    colour: Annotated[ColourName, Query(description="What colours say.")] = "top_token_share",
    scorer: Scorer = "detection",
    q: Words = None,
    tag: Tagged = None,
) -> FeatureMap:
    detail = show(session, context, sae)
    sort = _SORTS.get(x) or _SORTS.get(y)
    wanted = FeatureFilter(
        sort=sort or "index", order="desc" if sort else "asc", scorer=scorer, text=q, tag=tag
    )
    page = list_features(session, sae, wanted, limit=_ROWS)
    usual = FeatureFilter()
    names = ("sort", "order", "scorer", "tag")
    kept = {n: getattr(wanted, n) for n in names if getattr(wanted, n) != getattr(usual, n)}
    tags = [each.tag for each in list_tags(session, sae, limit=_TAGS).items]
    axes = {name: AXES[name].name for name in get_args(MeasuredColumn)}
    return FeatureMap(
        sae=detail,
        x=x,
        y=y,
        colour=colour,
        scorer=scorer,
        q=q,
        tag=tag,
        axes=axes,
        colours={"none": "nothing", "explained": AXES["explained"].name, **axes},
        scorers=sorted({usual.scorer, scorer, *detail.features.scorers}),
        tags=sorted({*tags, *([tag] if tag else [])}),
        features=page.items,
        more=page.next_cursor is not None,
        sorted_by=sort,
        table={**kept, "q": q},
        data={
            "sae": detail.name,
            "d_sae": detail.d_sae,
            "indexed": detail.index is not None,
            "axes": {name: asdict(axis) for name, axis in AXES.items()},
        },
    )
