"""Sets of SAEs as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated

from pydantic import BaseModel, Field

from monosemy.specs.described import Described
from monosemy.specs.hooks import MOST_PLACES
from monosemy.specs.names import Name
from monosemy.specs.part import Part
from monosemy.specs.readings import StoredFigures
from monosemy.specs.rest.saes import ModelBrief, SaeSummary


class NewSet(Part):
    """Stored SAEs that are to be a set."""

    name: Name
    """Unique among sets."""
    saes: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=2, max_length=MOST_PLACES
    )
    """Ids or unique names, in any order: of one host model, each of which reads one place and
    writes one, no two the same, and none of another set."""


class SetEvaluation(Described):
    """What the newest run of kind `evaluate_set` over just these SAEs has measured; it goes with
    that run."""

    run_id: uuid.UUID
    finished_at: dt.datetime
    metrics: StoredFigures
    """`members` by layer (FVU, L0, dead share, and `alone` with only that one in place), `all` and
    `mean_ablation` with every place replaced at once: the loss' increase with its 95 % interval,
    KL, agreement; `ce_clean`, `ce_recovered_mean`, `splice_tokens`, `splice_rows`."""


class SetSummary(Described):
    """SAEs of one host model in several layers: trained together on the same batches, imported
    together, or put together by somebody."""

    name: str
    model: ModelBrief
    reads: str
    """The site that is read, `*` for the layer: `blocks.*.mlp.hook_in`."""
    writes: str
    """The site that is reconstructed; the same unless they transcode."""
    layers: list[int]
    """In which layers there is one, ascending."""
    complete: bool
    """Whether every SAE that the set was made with is still there, and every layer of the host
    model has one."""
    architecture: str
    """Of the first; `mixed` where they differ."""
    d_sae: int
    """Latents of the largest."""
    created_at: dt.datetime
    """Of the newest."""


class SetView(SetSummary):
    """The same, with its SAEs."""

    saes: list[SaeSummary]
    """By layer."""
    evaluation: SetEvaluation | None = None
    """null where no run has measured just these SAEs together."""


class SetTable(BaseModel):
    """All sets."""

    items: list[SetSummary]
