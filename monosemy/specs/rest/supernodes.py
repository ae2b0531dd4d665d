"""Supernodes of an attribution graph as the library proposes and the API shows them."""

from __future__ import annotations

from typing import Literal

from monosemy.specs.described import Described

MOST_GROUPED = 500
"""Features that are looked at, at most."""


class SharedEdge(Described):
    """What all members of a supernode are fed by, or feed, at whatever token."""

    label: str
    """Of an error its layer."""
    node: int
    """Number of one of the nodes that this is."""
    kind: Literal["feature", "error", "token", "position", "bias", "logit"]
    layer: int
    """-1 where there is none."""
    share: float
    """Signed, mean over the members: of the edges into each member, or of the edges into what they
    feed."""


class ProposedSupernode(Described):
    """Features that do the same, so far as edges and labels say."""

    name: str
    """Label of the member through which most influence flows."""
    nodes: list[int]
    """Those of the most influence first."""
    why: Literal["same feature", "alike"]
    """`same feature`: one feature at adjacent tokens; `alike`: edges (and labels) are."""
    similarity: float | None
    """Mean over pairs of members, from 0 to 1; null of one feature alone."""
    least: float | None
    """What it had to be, mean over the same pairs: in 95 % of shuffled graphs no pair of any layers
    is as similar, or 0.5."""
    p: float | None
    """Share of shuffled graphs, this one among them, whose best pair is as far above what it had to
    be; null of one feature alone."""
    fed_by: list[SharedEdge]
    """What feeds all of its members with one sign, the largest mean share first."""
    feeds: list[SharedEdge]


class SupernodeEdge(Described):
    """What one supernode adds to another: the edges into each member summed over the sources, and
    averaged over the targets by their influence."""

    source: int
    """Place among `supernodes`."""
    target: int
    weight: float


class ProposedSupernodes(Described):
    """Groups of a graph's features, proposed; nothing is stored."""

    supernodes: list[ProposedSupernode]
    """Those through which most influence flows first."""
    edges: list[SupernodeEdge]
    """The largest weights first."""
    features: int
    """That were looked at: those of the most influence."""
    of_features: int
    """Those of the graph."""
    labelled: int
    """Of those looked at, how many have an explanation that was embedded; the similarity of edges
    is multiplied with that of labels."""
    shuffles: int
    """Shuffled graphs: every feature keeps the weights of its edges, and every end of edges how
    many it has of each size, but which edge is whose is random; labels likewise."""
    refused: int
    """Pairs alike enough that were not put together because a path leaves them and comes back."""
