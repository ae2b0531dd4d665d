"""What several attribution graphs have in common, as the library finds it and the API shows it."""

from __future__ import annotations

import uuid
from typing import Literal

from monosemy.specs.described import Described
from monosemy.specs.rest.circuits import WithInterval
from monosemy.specs.rest.graphs import GraphHeader

Alignment = Literal["sum", "end", "token"]
"""When parts of two graphs are the same one: `sum`, the same feature, whatever its tokens, which
are summed; `end`, the same feature as many tokens before the end; `token`, the same feature at the
same token."""

MOST_COMMON = 50
"""Graphs that are laid over each other."""
MOST_AGAINST = 50
MOST_UNITS = 300
"""Features that are listed at most."""


class Chance(Described):
    """In how many graphs a part would stand by chance."""

    expected: float
    """Mean number of graphs."""
    p: float
    """Probability that it would stand in as many graphs as it does, or more."""
    q: float
    """False discovery rate at which it passes (Benjamini and Hochberg): of features, all that fire
    on one of the prompts are tested; of edges, all pairs of listed parts."""


class CommonUnit(Described):
    """A feature, a token, or what is explained, over all graphs that it stands in."""

    kind: Literal["feature", "token", "goal"]
    layer: int
    """-1 of a token; the number of layers of what is explained."""
    branch: Literal["attention", "mlp"] | None
    """Which half of its block a feature is of; null of the others."""
    coder: int
    """Place among `saes`; -1 of what is no feature."""
    latent: int | None
    place: str | None
    """Aligned by `end`: how many tokens before the last, as -2; by `token`: its text."""
    label: str
    graphs: int
    """So many of the graphs have it."""
    share: WithInterval
    """Share of the influence that flows through it: mean over all graphs (0 where it does not
    stand), and Student's 95 % interval over them."""
    positive: int
    """In so many graphs it holds the goals up, all paths together; in the others that have it, it
    holds them down."""
    chance: Chance | None
    """As many features of each SAE as a graph keeps, drawn among those that fire on its prompt in
    proportion to their activations; null of tokens and goals, and where a graph does not know what
    fires."""
    against_graphs: int | None
    """So many of the graphs that these are held against have it."""
    difference: WithInterval | None
    """Mean share here less that in the graphs that these are held against, with Welch's 95 %
    interval."""


class CommonEdge(Described):
    """An edge between two units, over all graphs that it stands in."""

    source: int
    """Place among `units`."""
    target: int
    graphs: int
    flow: WithInterval
    """Share of the influence along it: mean over all graphs, and Student's 95 % interval."""
    weight: float
    """Mean over the graphs that have it; into a goal, goals weighted as they count."""
    positive: int
    """In so many graphs it adds."""
    chance: Chance
    """Where both ends stand: every part keeps how many edges leave and enter it, and has them with
    others at random."""
    against_graphs: int | None


class CommonCount(Described):
    """How many features stand in so many graphs or more."""

    graphs: int
    features: int
    by_chance: WithInterval | None
    """Expected number, with 1.96 standard deviations of independent features either way."""


class Overlap(Described):
    """How alike the features of two graphs are, weighted by influence: the sum of the smaller
    shares over the sum of the larger; mean over pairs of graphs."""

    within: float
    interval: WithInterval | None
    """Of `within`: Student's 95 %, by leaving out one graph at a time; null of two graphs."""
    by_chance: float | None
    """Of features drawn among those that fire, in proportion to their activations, with the shares
    in random order."""
    against: float | None
    """Of pairs with a graph that these are held against."""
    p: float | None
    """Of all ways to divide these graphs and those that they are held against, or of 1,000 random
    ones, the share in which `within - against` is as large."""
    divisions: int | None
    """Ways that were looked at."""


class Common(Described):
    """What several graphs of one host model and the same SAEs have in common."""

    n: int
    """Graphs."""
    n_against: int
    """Graphs of other prompts that they are held against."""
    align: Alignment
    least: int
    """Listed is what stands in so many graphs or more."""
    features: int
    """That do; `units` may have fewer."""
    stable: int
    """Of them, those that stand in more graphs than chance lets them, q at most .05."""
    counts: list[CommonCount]
    overlap: Overlap
    units: list[CommonUnit]
    """Features first, then tokens and what is explained; those with the largest shares first."""
    edges: list[CommonEdge]
    """Between these units, those along which most flows first."""
    has_null: bool
    """Whether all graphs know which features fire on their prompts; ones stored by earlier versions
    do not."""


class CommonView(Common):
    """The same with what the graphs are called."""

    graphs: list[GraphHeader]
    against: list[GraphHeader]
    saes: list[str]
    """Names, in the order of `coder`."""
    served: list[bool]
    """Of each of `saes`, whether its features have pages."""
    run: uuid.UUID | None
    """The run that traced all of the graphs, where they were named by it."""
