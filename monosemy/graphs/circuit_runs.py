"""The replacement model run for itself: features encoded anew, and only those of a circuit.

At the tokens that a coder takes, the MLP's output is made of b_dec, the skip, the features that are
kept (``relu`` of their pre-activations where the run has come to, nothing held), and, where errors
are kept, the error of the clean prompt.  Elsewhere the host's own MLPs run.  So it is with SAEs of
attention, which read what the host's heads bring.  Only features that are active on the clean
prompt take part: none is switched on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from monosemy.graphs.ablation import goal_site, goal_values, run_edited
from monosemy.graphs.coded_attention import CodedAttention
from monosemy.graphs.features import FeatureGroup
from monosemy.graphs.goals import Goal
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.models import sites as kinds
from monosemy.models.hook_points import Edit
from monosemy.models.sites import Site

_AT_ONCE = 1 << 22
"""Numbers of the stream that are gathered together."""


def run_circuits(
    prompt: ReplacedPrompt, kept_BN: Tensor, goal: Goal, errors: bool = True
) -> Tensor:
    """The goal with these features kept, ``[B]``: one row of the host for each set, bool
    ``[B, N]`` over the features of the prompt."""
    run = _Run(prompt, kept_BN.to(prompt.last_TD.device), errors)
    where = goal_site(goal, prompt.layers)
    edits = [(str(site), run.remember(site)) for site in prompt.places]
    edits += [(str(Site(layer, kinds.MLP_OUT)), run.put(layer)) for layer in prompt.model.writer]
    edits += [(str(each.site), run.stand(each)) for each in prompt.coded_attention.values()]
    values = run_edited(prompt, edits, [where], len(kept_BN))
    return goal_values(goal, values, prompt.layers)


class _Run:
    def __init__(self, prompt: ReplacedPrompt, kept_BN: Tensor, errors: bool) -> None:
        self.prompt, self.kept_BN, self.errors = prompt, kept_BN, errors
        self.read: dict[Site, Tensor] = {}
        self.active: dict[int, Tensor] = {}
        """By group: ``[B, n]``, once its layer has been read."""

    def remember(self, site: Site) -> Edit:
        def keep(value: Tensor) -> Tensor:
            self.read[site] = value.float()
            return value

        return keep

    def put(self, layer: int) -> Edit:
        prompt, coder = self.prompt, self.prompt.model.writer[layer]
        coded_T = prompt.coded_T[coder.number]
        constant_D = coder.b_dec[coder.writes[layer]].to(prompt.last_TD.device)

        def made(value: Tensor) -> Tensor:
            new_BTD = torch.zeros_like(value, dtype=torch.float32) + constant_D
            for site, matrix in coder.skips(layer):
                new_BTD += self.read[site] @ matrix.T.to(new_BTD)
            if self.errors:
                new_BTD += prompt.error_LTD[layer]
            for number, group in enumerate(prompt.features.groups):
                if group.coder is coder and group.layer <= layer:
                    self._add(number, group, layer, new_BTD)
            return torch.where(coded_T[:, None], new_BTD.to(value), value)

        return made

    def stand(self, coded: CodedAttention) -> Edit:
        """For attention: reads what comes, and puts features and error in its place."""

        def made(value: Tensor) -> Tensor:
            self.read[coded.site] = value.float()
            new_BTW = torch.zeros_like(value, dtype=torch.float32)
            new_BTW += coded.coder.b_dec.to(new_BTW)
            if self.errors:
                new_BTW += coded.error_TW
            for number, group in enumerate(self.prompt.features.groups):
                if group.coder is coded.coder:
                    self._add(number, group, coded.layer, new_BTW)
            return torch.where(coded.coded_T[:, None], new_BTW.to(value), value)

        return made

    def _add(self, number: int, group: FeatureGroup, layer: int, into_BTD: Tensor) -> None:
        if number not in self.active:
            self.active[number] = self._activations(group)
        active_BN = self.active[number]
        step = max(1, _AT_ONCE // into_BTD[:, 0].numel())
        for start in range(0, len(group), step):
            part = slice(start, start + step)
            rows_ND = group.coder.decoder(group.latent_N[part], layer)
            written = active_BN[:, part, None] * rows_ND
            into_BTD.index_add_(1, group.position_N[part], written)

    def _activations(self, group: FeatureGroup) -> Tensor:
        kept_BN = self.kept_BN[:, group.start : group.start + len(group)]
        made_BN = torch.zeros(kept_BN.shape, device=kept_BN.device)
        width = group.coder.sae.d_in * len(kept_BN)
        step = max(1, _AT_ONCE // width)
        for start in range(0, len(group), step):
            part = slice(start, start + step)
            rows_ND, bias_N = group.coder.encoder(group.latent_N[part])
            made_BN[:, part] = bias_N
            for site, columns in group.coder.reads.items():
                if site.layer > group.layer or not bool(rows_ND[:, columns].any()):
                    continue
                there_BND = self.read[site][:, group.position_N[part]]
                made_BN[:, part] += (there_BND * rows_ND[:, columns]).sum(-1)
        return made_BN.relu() * kept_BN
