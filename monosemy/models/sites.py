"""Names of hook sites, in TransformerLens' words: ``blocks.9.hook_resid_post``.

| kind | what | width |
|---|---|---|
| hook_resid_pre, _mid, _post | residual stream before, within, after a block | d_model |
| hook_attn_out, hook_mlp_out | what both add to the stream (after a sandwich norm) | d_model |
| attn.hook_z | input of attention's output projection, heads concatenated | heads * d_head |
| ln2.hook_normalized | the norm before the MLP, before its gain and bias | d_model |
| mlp.hook_in | what the MLP reads: behind gain and bias | d_model |
| mlp.hook_post | input of the MLP's down projection | d_mlp |
| mlp.hook_out | what the MLP gives, before a sandwich norm | d_model |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from monosemy.errors import UnknownSite
from monosemy.figures import ranges

RESID_PRE = "hook_resid_pre"
RESID_MID = "hook_resid_mid"
RESID_POST = "hook_resid_post"
ATTN_OUT = "hook_attn_out"
MLP_OUT = "hook_mlp_out"
Z = "attn.hook_z"
LN2_NORMALIZED = "ln2.hook_normalized"
MLP_IN = "mlp.hook_in"
MLP_POST = "mlp.hook_post"
MLP_RAW = "mlp.hook_out"

KINDS = (
    RESID_PRE,
    Z,
    ATTN_OUT,
    RESID_MID,
    LN2_NORMALIZED,
    MLP_IN,
    MLP_POST,
    MLP_RAW,
    MLP_OUT,
    RESID_POST,
)
"""Every kind of site, in the order in which a block computes them."""

STREAM = (RESID_PRE, RESID_MID, RESID_POST)
"""The residual stream itself; the other kinds are, or become, what is added to it, but for those of
``MLP_READS``."""

MLP_READS = (LN2_NORMALIZED, MLP_IN)
"""What the MLP makes something else of: a direction there is none of the stream."""

_NAME = re.compile(r"blocks\.(\d+)\.(.+)")


class Site(NamedTuple):
    """One place in a host model; sorts by depth of its block."""

    layer: int
    kind: str

    def __str__(self) -> str:
        return f"blocks.{self.layer}.{self.kind}"


WHERE_KIND = f"where KIND is one of {', '.join(KINDS)}"
FORM = f"blocks.LAYER.KIND, {WHERE_KIND}"
"""How the name of a site is written."""


def what_exists(kinds_of: Mapping[int, Collection[str]]) -> str:
    """The kinds of sites by layer, in words: one part for each set of kinds, with the blocks that
    offer it, so that it is short for any depth."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for layer in sorted(kinds_of):
        groups.setdefault(tuple(k for k in KINDS if k in kinds_of[layer]), []).append(layer)
    parts = [
        f"blocks {ranges(layers)}: {', '.join(kinds) or 'nothing'}"
        for kinds, layers in groups.items()
    ]
    return f"It has {'; '.join(parts)}."


def parse_site(name: str) -> Site:
    """``Site`` of a TransformerLens name; raises ``UnknownSite`` with the pattern to follow."""
    match = _NAME.fullmatch(name)
    if match is None or match.group(2) not in KINDS:
        raise UnknownSite(
            f"'{name}' is not the name of a site.",
            f"Write {FORM}.",
        )
    return Site(int(match.group(1)), match.group(2))
