"""/graphs/common: what several graphs share"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated

from fastapi import Depends, Query
from pydantic import Field

from monosemy.graphs.common import LISTED
from monosemy.specs.rest.common_graphs import (
    MOST_AGAINST,
    MOST_COMMON,
    MOST_UNITS,
    Alignment,
    CommonView,
)
from service.database.session import transaction
from service.edge.context import AppContext, ContextDep
from service.edge.routing import ApiRouter
from service.graphs.common import CommonQuestion, common_view
from service.keys.authorize import CanRead
from service.kit.problems import documented

router = ApiRouter(prefix="/graphs/common", tags=["graphs"], dependencies=[CanRead])

Reference = Annotated[str, Field(min_length=1, max_length=200)]
Graphs = Annotated[
    list[Reference],
    Query(alias="graph", max_length=MOST_COMMON, description="Id or name; two or more."),
]
Against = Annotated[
    list[Reference],
    Query(max_length=MOST_AGAINST, description="Graphs of other prompts to hold them against."),
]
OfRun = Annotated[
    uuid.UUID | None, Query(description="A run of several prompts, in place of `graph`.")
]
Align = Annotated[
    Alignment,
    Query(
        description="`sum`: features whatever their tokens; `end`: as many tokens before the end;"
        " `token`: at the same token."
    ),
]
Least = Annotated[
    int, Query(ge=2, le=MOST_COMMON, description="Listed is what stands in so many graphs.")
]
Listed = Annotated[int, Query(ge=1, le=MOST_UNITS, description="Features that are listed.")]


def _asked(
    graphs: Graphs = [],  # noqa: B006
    run: OfRun = None,
    against: Against = [],  # noqa: B006
    align: Align = "sum",
    least: Least = 2,
    features: Listed = LISTED,
) -> CommonQuestion:
    return CommonQuestion(graphs, run, against, align, least, features)


AskedDep = Annotated[CommonQuestion, Depends(_asked)]
"""The question of an address, here and on the page."""


@router.get("", summary="Show what graphs have in common", responses=documented(404, 409, 422))
async def show_common(context: ContextDep, asked: AskedDep) -> CommonView:
    """Features and edges that stand in several graphs of one host model and the same SAEs: their
    mean share of the influence with its interval over graphs, their signs, and in how many graphs
    they would stand by chance; and how alike the graphs are, beside chance and beside graphs of
    other prompts."""
    return await context.lanes.reports.run(partial(answered, context, asked))


def answered(context: AppContext, asked: CommonQuestion) -> CommonView:
    with transaction(context.engine) as session:
        return common_view(session, asked, context.graphs, context.common)
