"""Whether an SAE from elsewhere can be what its files say: one forward of the host model on a page
of text.  Weights that are transposed, a site before or after a norm's gain, a scale that was not
folded in: each of these reconstructs worse than the mean does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from monosemy.evals.reconstruction import ReconstructionSums
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.host_text import HostText
from monosemy.progress import Reporter

TEXT = """The harbour was quiet when the ferry came in. Two men in yellow coats tied its ropes to
the posts, and a woman with a dog waited until the cars had left before she walked aboard. In 1921
the town had 4,300 inhabitants, a school, three churches and a factory that made paper; today it
lives from visitors, who come for the cliffs and for the birds. "You should have been here in
May," the captain said, "when the wind is from the south." He laughed, and poured tea.

A function that calls itself needs a case in which it does not:

def factorial(n):
    if n == 0:
        return 1
    return n * factorial(n - 1)

Water boils at 100 degrees Celsius at sea level, and at a lower temperature on a mountain, since the
pressure of the air is lower there. The committee will meet on Thursday to discuss the budget for
next year; members who cannot attend may send their comments to the secretary before noon. Paris,
Rome and Vienna are capitals; Milan, Hamburg and Barcelona are not. If x is larger than y, and y is
larger than z, then x is larger than z. She read the letter twice, folded it, and put it back into
the drawer where her grandmother had kept it for thirty years.
"""

_FAR = 4.0
"""How many times more, or fewer, active latents than the files say are no matter of the text."""


@torch.no_grad()
def check_import(
    hosted: HostedSAE, named: Mapping[str, Any], reporter: Reporter
) -> dict[str, Any] | None:
    """FVU and L0 on a page of English text, with how many ``tokens``, and ``doubts`` in words,
    which are told as they come up; None for an SAE of several host models.

    ``named``: what the files say; ``l0`` among it is what L0 should be near.
    """
    if hosted.hooks.other_hosts:
        return None
    text = HostText(hosted.host)
    ids = text.with_bos(text.tokens(TEXT))[: hosted.host.abilities.positions]
    ids_BS = torch.tensor([ids])
    captured = hosted.host.capture(ids_BS, torch.ones_like(ids_BS), hosted.hooks.sites())
    read, written = (
        [captured[hook.site].float().cpu() for hook in hooks]
        for hooks in (hosted.hooks.reads, hosted.hooks.writes)
    )
    # The first token, BOS as a rule, has activations of its own kind.
    counts = hosted.usable(read)[0]
    counts[0] = False
    x_ND, y_ND = (torch.cat(parts, dim=-1)[0][counts] for parts in (read, written))
    sae = hosted.sae
    sums = ReconstructionSums(sae)
    sums.add(x_ND, y_ND)
    figures = sums.metrics()
    fvu, l0 = figures["fvu"], figures["l0"]
    doubts = _doubts(fvu, l0, sae.d_sae, named.get("l0"))
    for doubt in doubts:
        reporter.log(doubt)
    return {"fvu": fvu, "l0": l0, "tokens": figures["tokens"], "doubts": doubts}


def _doubts(fvu: float | None, l0: float, d_sae: int, named: Any) -> list[str]:
    doubts = []
    if fvu is not None and not fvu < 1:
        doubts.append(
            f"It reconstructs a page of text worse than the mean does (FVU {fvu:.3g}): weights, "
            "site or scale cannot be what the files say."
        )
    if l0 == 0 or l0 > d_sae / 2:
        doubts.append(f"{l0:.3g} of {d_sae} latents fire per token on a page of text.")
    elif isinstance(named, int | float) and named > 0 and not 1 / _FAR < l0 / named < _FAR:
        doubts.append(f"{l0:.3g} latents fire per token, and the files say {named:g}.")
    return doubts
