"""/contrast: features that tell one set of texts from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request

from monosemy.interp.contrast import RELABELLINGS
from monosemy.specs.inference.contrast import MAX_TEXT, MAX_TEXTS, Pooling, Statistic
from monosemy.specs.inference.prompts import SaeName
from monosemy.specs.rest.saes import SaeSummary
from service.edge.context import SessionDep
from service.pages.commands import command, curl, packed
from service.pages.navigation import Nav
from service.pages.page import PageRouter
from service.pages.sae_choice import one_sae

router = PageRouter()

STATISTICS: dict[Statistic, str] = {
    "standardised": "difference of means, standardised",
    "auroc": "AUROC",
    "share": "share of texts on which it fires",
}
POOLINGS: dict[Pooling, str] = {"mean": "mean over its tokens", "max": "largest of its tokens"}
_POSITIVE = [
    "I love it.",
    "What a great day!",
    "Wonderful.",
    "The food was good.",
    "She is very kind.",
]
_NEGATIVE = [
    "I hate it.",
    "What an awful day!",
    "Terrible.",
    "The food was bad.",
    "She is very rude.",
]


@dataclass(frozen=True)
class Contrast:
    sae: SaeSummary | None
    others: list[SaeSummary]
    more: bool
    statistic: Statistic
    statistics: dict[Statistic, str]
    pooling: Pooling
    poolings: dict[Pooling, str]
    top_k: int
    most_texts: int
    most_characters: int
    most_relabellings: int
    """Labellings that are tried where there are no fewer; the true one is among them."""
    by_command: str
    by_rest: str
    example: str
    """For the fragment of a link."""


@router.page("/contrast", "contrast.html", nav=Nav("Contrast", 40), script="pages/contrast.js")
def contrast(
    request: Request,
    session: SessionDep,
    sae: SaeName | None = None,
    statistic: Statistic = "standardised",
    pooling: Pooling = "mean",
    top_k: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Contrast:
    """The texts are in the fragment."""
    choices = one_sae(session, sae)
    chosen = choices.chosen[0] if choices.chosen else None
    name = chosen.name if chosen else "demo"
    words = ["contrast", name]
    for flag, texts in (("--positive", _POSITIVE), ("--negative", _NEGATIVE)):
        for text in texts:
            words += [flag, text]
    words += ["--statistic", statistic, "--pooling", pooling, "--top", str(top_k)]
    body = {
        "sae": name,
        "positive": _POSITIVE,
        "negative": _NEGATIVE,
        "statistic": statistic,
        "pooling": pooling,
        "top_k": top_k,
        "values": True,
    }
    return Contrast(
        sae=chosen,
        others=choices.others,
        more=choices.more,
        statistic=statistic,
        statistics=STATISTICS,
        pooling=pooling,
        poolings=POOLINGS,
        top_k=top_k,
        most_texts=MAX_TEXTS,
        most_characters=MAX_TEXT,
        most_relabellings=RELABELLINGS + 1,
        by_command=command(words),
        by_rest=curl(request, "/inference/contrast", body),
        example=packed({"positive": _POSITIVE, "negative": _NEGATIVE}),
    )
