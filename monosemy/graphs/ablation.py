"""A host run with parts of a graph taken away: all held, its MLPs held, or nothing held."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from monosemy.attribution.linearised import FINAL, HeldSite, LinearSkip
from monosemy.graphs.goals import Goal
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.models import sites as kinds
from monosemy.models.hook_points import Edit, Editor, HookPoint, Recorder
from monosemy.models.host import OpenHost
from monosemy.models.sites import Site
from monosemy.specs.graphs import Held

Deltas = dict[str, Tensor]
"""By site, what is added to an MLP's output or at an SAE of attention: ``[B, T, width]``."""


def without_features(prompt: ReplacedPrompt, features: Sequence[Sequence[int]]) -> Deltas:
    """What each of B sets of features writes, to be taken away."""
    deltas: Deltas = {}
    for row, members in enumerate(features):
        for number in members:
            group = next(g for g in prompt.features.groups if number < g.start + len(g))
            place = number - group.start
            for layer in group.coder.writes:
                if layer < group.layer:
                    continue
                written = group.written(layer, place, place + 1)[0]
                site = str(group.coder.written_site(layer))
                if site not in deltas:
                    shape = len(features), prompt.length, len(written)
                    deltas[site] = prompt.last_TD.new_zeros(shape)
                deltas[site][row, int(group.position_N[place])] -= written
    return deltas


def without_errors(prompt: ReplacedPrompt, errors: Sequence[tuple[int, int]]) -> Deltas:
    """The same of B errors of MLPs (layer, token)."""
    deltas: Deltas = {}
    width = prompt.last_TD.shape[1]
    for row, (layer, token) in enumerate(errors):
        site = str(Site(layer, kinds.MLP_OUT))
        if site not in deltas:
            deltas[site] = prompt.last_TD.new_zeros(len(errors), prompt.length, width)
        deltas[site][row, token] -= prompt.error_LTD[layer][token]
    return deltas


def joined(first: Deltas, second: Deltas) -> Deltas:
    """The rows of the one and then those of the other."""
    counts = [next(iter(each.values())).shape[0] if each else 0 for each in (first, second)]
    result: Deltas = {}
    for site in {*first, *second}:
        like = first.get(site, second.get(site))
        assert like is not None
        parts = [
            part[site] if site in part else like.new_zeros(count, *like.shape[1:])
            for part, count in zip((first, second), counts, strict=True)
        ]
        result[site] = torch.cat(parts)
    return result


def values_at(
    prompt: ReplacedPrompt, deltas: Deltas, sites: Sequence[str], held: Held, rows: int
) -> dict[str, Tensor]:
    """Values ``[B, T, width]`` at sites, or ``FINAL``, with the deltas added; float32.  Where an
    SAE of attention stands it is the value that it reads."""
    if held == "all":
        return _all_held(prompt, deltas, sites, rows)
    stand = _standing(prompt)

    def change(site: str, clean_TW: Tensor, at_T: Tensor | None) -> Edit:
        delta = deltas.get(site)

        def put(value: Tensor) -> Tensor:
            base = value
            if held == "mlps":
                base = clean_TW.to(value).expand_as(value)
                base = base if at_T is None else torch.where(at_T[:, None], base, value)
            return base if delta is None else base + delta.to(value)

        return put

    changed = [site for site in stand if held == "mlps" or site in deltas]
    return run_edited(prompt, [(site, change(site, *stand[site])) for site in changed], sites, rows)


def run_edited(
    prompt: ReplacedPrompt, edits: Sequence[tuple[str, Edit]], sites: Sequence[str], rows: int
) -> dict[str, Tensor]:
    """Values ``[B, T, width]`` at sites, or ``FINAL``, of the host with edits of its sites;
    float32.  Where an SAE of attention stands it is the value before any edit of it."""
    host, shape = prompt.host, (rows, prompt.length)
    ids_BS = torch.tensor([list(prompt.ids_T)]).expand(rows, -1)
    stand = {str(each.site) for each in prompt.coded_attention.values()}
    with host.opened() as opened, torch.no_grad(), ExitStack() as stack:
        final = final_point(opened)
        points = {site: final if site == FINAL else opened.sites.point(site) for site in sites}
        before = [points[site] for site in sites if site in stand]
        after = [points[site] for site in sites if site not in stand]
        planned = [(opened.sites.point(site), edit) for site, edit in edits]
        first = stack.enter_context(Recorder(before, shape, stop_when_full=False))
        stack.enter_context(Editor(planned, shape))
        last = stack.enter_context(Recorder(after, shape))
        opened.core(input_ids=ids_BS.to(host.device), use_cache=False)
    values = first.values | last.values
    return {site: values[point].float() for site, point in points.items()}


def _standing(prompt: ReplacedPrompt) -> dict[str, tuple[Tensor, Tensor | None]]:
    """By site: what stands for MLPs and attention, ``[T, width]``, and at which tokens (None:
    all)."""
    mlps = {str(Site(at, kinds.MLP_OUT)): (mlp, None) for at, mlp in enumerate(prompt.mlp_LTD)}
    coded = prompt.coded_attention.values()
    return mlps | {str(each.site): (each.value_TW, each.coded_T) for each in coded}


def held_attention(
    prompt: ReplacedPrompt, deltas: Deltas | None = None, row: int = 0
) -> list[HeldSite]:
    """What SAEs of attention stand for, as the linearised host takes it, with a row of deltas."""
    held = []
    for each in prompt.coded_attention.values():
        delta = (deltas or {}).get(str(each.site))
        value_TW = each.value_TW if delta is None else each.value_TW + delta[row]
        held.append(HeldSite(str(each.site), value_TW, each.coded_T))
    return held


def final_point(opened: OpenHost) -> HookPoint:
    """Where the stream is that the unembedding multiplies."""
    norm = opened.trunk.final_norm
    return HookPoint(opened.trunk.blocks[-1] if norm is None else norm, "output")


def _all_held(
    prompt: ReplacedPrompt, deltas: Deltas, sites: Sequence[str], rows: int
) -> dict[str, Tensor]:
    skips, leaves = skips_of(prompt), _leaves(prompt)
    parts: dict[str, list[Tensor]] = {site: [] for site in sites}
    for row in range(rows):
        changed = {
            name: leaf + deltas[name][row] if name in deltas else leaf
            for name, leaf in leaves.items()
        }
        held = held_attention(prompt, deltas, row)
        made = prompt.linearised.forward(sites, changed, skips, held)
        for site, value in made.items():
            parts[site].append(value[0].detach().float())
    return {site: torch.stack(values) for site, values in parts.items()}


def skips_of(prompt: ReplacedPrompt) -> list[LinearSkip]:
    """The linear paths of the set, as the linearised host takes them."""
    return [
        LinearSkip(
            str(site),
            str(Site(layer, kinds.MLP_OUT)),
            matrix,
            prompt.coded_T[coder.number],
        )
        for layer, coder in prompt.model.writer.items()
        for site, matrix in coder.skips(layer)
    ]


def _leaves(prompt: ReplacedPrompt) -> dict[str, Tensor]:
    """By layer: what an MLP adds beside its skip, ``[1, T, D]``."""
    leaves = {}
    for layer, mlp_TD in enumerate(prompt.mlp_LTD):
        value_TD, coder = mlp_TD, prompt.model.writer.get(layer)
        for site, matrix in () if coder is None else coder.skips(layer):
            at_T1 = prompt.coded_T[coder.number][:, None]  # type: ignore[union-attr]
            value_TD = value_TD - (prompt.places[site].value_TD @ matrix.T) * at_T1
        leaves[str(Site(layer, kinds.MLP_OUT))] = value_TD[None]
    return leaves


def goal_values(goal: Goal, values: dict[str, Tensor], layers: int) -> Tensor:
    """What a goal is on each of B rows of values, ``[B]``."""
    return values[goal_site(goal, layers)][:, goal.position] @ goal.vector_D + goal.constant


def goal_site(goal: Goal, layers: int) -> str:
    """Where a goal is read."""
    if goal.stream is None:
        return FINAL
    if goal.stream == layers:
        return str(Site(layers - 1, kinds.RESID_POST))
    return str(Site(goal.stream, kinds.RESID_PRE))


def feature_values(prompt: ReplacedPrompt, number: int, values: dict[str, Tensor]) -> Tensor:
    """The pre-activation of a feature on each of B rows of values, ``[B]``."""
    features = prompt.features
    coder = prompt.model.coders[int(features.coder_N[number])]
    rows_ND, bias_N = coder.encoder(features.latent_N[number : number + 1])
    token, total = int(features.position_N[number]), bias_N[0]
    for site, part in coder.reads.items():
        if str(site) in values:
            total = total + values[str(site)][:, token] @ rows_ND[0, part]
    return total


def feature_sites(prompt: ReplacedPrompt, number: int) -> list[str]:
    """The places that one feature reads."""
    features = prompt.features
    coder = prompt.model.coders[int(features.coder_N[number])]
    rows_ND, _ = coder.encoder(features.latent_N[number : number + 1])
    return [str(site) for site, part in coder.reads.items() if bool(rows_ND[0, part].any())]
