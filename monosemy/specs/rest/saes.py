"""SAEs as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, Literal

from monosemy.specs.described import Described
from monosemy.specs.readings import StoredFigures

SaeFiles = Literal["weights", "index"]
"""Of an SAE on disk: its folder, and that of its index."""


class ModelBrief(Described):
    """The host model of an SAE, in short."""

    id: uuid.UUID
    name: str
    architecture: str | None
    n_layers: int | None
    d_model: int | None
    d_vocab: int | None
    no_generation: str | None = None
    """Why it writes no text, so that nothing is steered in it; null where it does."""


class HookView(Described):
    """A place at which an SAE is hooked."""

    host: str
    """Role of the host model; `host` is that of the SAE's own."""
    site: str
    """In TransformerLens names."""
    width: int | None
    """Length of the activations there; null where nobody noted it."""


class HooksView(Described):
    """Where an SAE reads and writes, in the order in which activations stand side by side."""

    reads: list[HookView]
    writes: list[HookView]
    """What it reconstructs: the same as `reads`, unless it transcodes."""


class SetPlaceView(Described):
    """Where an SAE stands in its set."""

    name: str
    """Of the set."""
    place: int
    """Counts from 0, by layer."""
    size: int
    """SAEs that the set was made with."""


class FeatureCounts(Described):
    """How far the work on an SAE's features has come."""

    indexed: int
    explained: int
    """Features with at least one explanation."""
    scored: int
    """Features with at least one scored explanation."""
    scorers: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it
    """Features with a score, by scorer."""


class LatentClassCounts(Described):
    """How many latents of a crosscoder an evaluation has found to be of which class, by the length
    of what they write at each place."""

    exclusive: int
    """Those that look exclusive to one place: elsewhere less than a tenth of the length."""
    genuine: int
    """Of these, those that are: neither the error nor the reconstruction at another place has them
    too (latent scaling below .1 and .5)."""
    weak: int
    """Weaker at some places."""
    shared: int
    """At least eight tenths of the largest length at every place."""
    unknown: int
    """Those that no evaluation has measured: none has run, or they never fired on held-out text."""


class SaeSummary(Described):
    """An SAE in a listing, and wherever something belongs to one."""

    id: uuid.UUID
    name: str
    model: ModelBrief
    site: str
    """The first place that is read, in TransformerLens names."""
    hooks: HooksView
    """All places that are read and written."""
    architecture: str
    basis: str | None = None
    """Of what needed no training: `neurons`, `pca` or `random_directions`; null for an SAE that was
    trained or imported."""
    set: SetPlaceView | None = None
    """The set that it is of: SAEs of one host model in several layers."""
    d_in: int
    d_sae: int
    """Number of latents."""
    metrics: StoredFigures
    """fvu, l0, dead_share, and `evaluation` with CE recovered once that has run."""
    index: dict[str, Any] | None
    """The current index: text_id, tokens, documents, bytes per feature; null if none."""
    created_at: dt.datetime
    path: str
    """Its folder (SAELens v6), relative to the artifact root."""
    features: FeatureCounts | None = None
    """How far the work on its features has come; null in listings that were not asked for it."""


class SaeDetail(SaeSummary):
    """Everything about one SAE but its features."""

    run_id: uuid.UUID | None
    """The run that trained it."""
    missing_files: list[SaeFiles] = []  # noqa: RUF012 - pydantic copies it
    """What of its files is known to be missing on the server's disk: nothing can be run on it, what
    is recorded stays. Empty as well where the server does not see the disk."""
    config: dict[str, Any]
    """SAE, text and training part of its spec."""
    provenance: StoredFigures
    """Everything it was made from: model, text, versions, seeds."""
    features: FeatureCounts
    """How far the work on its features has come."""
    latent_classes: LatentClassCounts | None = None
    """Of a crosscoder; null for other SAEs."""


class Histogram(Described):
    """How often values occur, in bins that are equally wide on a log scale."""

    edges: list[float]
    """Borders of the bins, ascending, one more than there are bins; none where nothing fires."""
    counts: list[int]
    """Features in each bin, its lower border included."""


class Distribution(Described):
    """How often, and how strongly, the features of an index fire."""

    tokens: int | None
    """Tokens indexed."""
    features: int
    """Features indexed."""
    silent: int
    """Those that never fired; they are in neither histogram."""
    density: Histogram
    """Of the share of tokens on which a feature fires, in quarters of a decade."""
    maximum: Histogram
    """Of the strongest activation, in eighths of a decade."""
