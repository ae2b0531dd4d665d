"""Layouts of SAEs' decoder rows as the library makes them and the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from monosemy.specs.described import Described


class KeptShare(Described):
    """Share of the nearest decoder rows that are among the nearest points too."""

    value: float
    """Mean over the features."""
    low: float
    """Lower end of the 95 % interval: features resampled."""
    high: float


class Faithfulness(Described):
    """How much of the decoder's neighbourhoods a layout keeps."""

    neighbours: int
    """How many nearest ones of each feature are looked at, by cosine and in the plane."""
    n: int
    """Features."""
    layout: KeptShare
    pca: KeptShare
    """Of the first two principal components of the same rows."""
    chance: float
    """What points in random places would keep: neighbours / (n - 1)."""
    trustworthiness: float
    """1 where no point is near that is not near by cosine (Venna and Kaski 2001)."""
    continuity: float
    """1 where nothing that is near by cosine is far away in the plane."""
    sampled: int
    """Features by which the last two are estimated."""


class LayoutSummary(Described):
    """What a layout is and how faithful."""

    method: Literal["tsne"]
    parameters: dict[str, Any]
    """Those of the run; `perplexity` as it was used, which is less than was asked for where there
    are few features."""
    features: int
    """Features that have a place."""
    left_out: int
    """Silent ones, which have none."""
    faithfulness: Faithfulness
    weights: str
    """Digest of the SAE that it was made of; it is refused once the SAE is another."""
    versions: dict[str, str]
    """Of the packages that it depends on."""


class LayoutView(LayoutSummary):
    """The layout of an SAE; the columns `layout_x` and `layout_y` are its coordinates."""

    sae: str
    run_id: uuid.UUID | None
    """The run that made it."""
    created_at: dt.datetime
