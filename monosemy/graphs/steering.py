"""Features of a prompt changed by hand: what comes next, by the graph and really.

The host is run twice as one batch, once left alone.  Where nothing is held, a changed feature's old
activation is what its coder makes of the run as it is by then, so that ablating two features of
which one feeds the other takes away what is left of the second; all others follow by the host's own
MLPs.  Where MLPs are held, nothing but the changes by hand reaches the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.attribution.linearised import FINAL
from monosemy.graphs.ablation import final_point, goal_site, goal_values, run_edited, values_at
from monosemy.graphs.feature_edits import EditGroup, FeatureEdits, feature_edits
from monosemy.graphs.goals import Goal
from monosemy.graphs.linear_change import LinearChange, linear_change
from monosemy.graphs.prompt import ReplacedPrompt
from monosemy.graphs.replacement import GraphCoder
from monosemy.graphs.run import goals_of, token_of
from monosemy.models.hook_points import Edit, Editor
from monosemy.models.sites import Site
from monosemy.saes.codes import Codes
from monosemy.specs.graphs import GraphGoals, Held, LogitDifferenceOf
from monosemy.specs.inference.graph_steering import (
    MOST_TOLD,
    EditedFeature,
    GraphSteered,
    GraphSteering,
    MovedFeature,
    PlacedEdit,
    SteeredGoal,
    SteeredToken,
)

_MOVE = np.dtype(
    [
        *((name, np.int64) for name in ("coder", "position", "latent")),
        *((name, np.float64) for name in ("before", "after", "predicted")),
    ]
)


@dataclass(frozen=True)
class SteeredRun:
    """Two rows, the clean prompt and the changed one: values at sites and ``FINAL``, ``[2, T,
    width]``, and what changed features became, by group."""

    values: dict[str, Tensor]
    after: list[Tensor]


def steered_run(edits: FeatureEdits, goals: Sequence[Goal], held: Held) -> SteeredRun:
    """The host with changed features; its values are those that goals and coders read."""
    prompt = edits.prompt
    read = [str(site) for site in prompt.read_TD]
    wanted = dict.fromkeys([FINAL, *(goal_site(goal, prompt.layers) for goal in goals), *read])
    if held != "nothing":
        values = values_at(prompt, edits.clean_deltas(), list(wanted), held, 2)
        return SteeredRun(values, [group.after(group.clean_N) for group in edits.groups])
    run = _FreeRun(edits)
    values = run_edited(prompt, run.edits(), list(wanted), 2)
    return SteeredRun(values, [run.after[place] for place in range(len(edits.groups))])


@dataclass
class _FreeRun:
    """Edits of a host run whose second row has changed features."""

    changed: FeatureEdits
    read: dict[Site, Tensor] = field(default_factory=dict)
    """Of the second row, ``[T, width]``."""
    after: dict[int, Tensor] = field(default_factory=dict)
    """By group, once what it reads has been read."""
    change: dict[int, Tensor] = field(default_factory=dict)

    def edits(self) -> list[tuple[str, Edit]]:
        groups = self.changed.groups
        sites = {site for group in groups for site in group.coder.reads}
        written = {
            group.coder.written_site(layer): layer for group in groups for layer in group.written
        }
        # Where an SAE of attention stands, what it reads is remembered before it is changed.
        made = [(str(site), self._remember(site)) for site in sorted(sites)]
        return made + [(str(site), self._put(site, written[site])) for site in sorted(written)]

    def _remember(self, site: Site) -> Edit:
        def keep(value: Tensor) -> Tensor:
            self.read[site] = value[1].float()
            return value

        return keep

    def _put(self, site: Site, layer: int) -> Edit:
        def put(value: Tensor) -> Tensor:
            delta_TD = torch.zeros_like(value[1], dtype=torch.float32)
            for place, group in enumerate(self.changed.groups):
                if layer in group.written and group.coder.written_site(layer) == site:
                    group.add_to(layer, self._changed(place, group), delta_TD)
            new = value.clone()
            new[1] += delta_TD.to(value)
            return new

        return put

    def _changed(self, place: int, group: EditGroup) -> Tensor:
        if place not in self.change:
            clean = self.changed.prompt.read_TD
            # What a coder reads further up is not there yet; it is taken as it was.
            parts = [
                self.read.get(site, clean[site])[group.position_N] for site in group.coder.reads
            ]
            old_N = _activations(group.coder, torch.cat(parts, dim=-1), group.latent_N)
            self.after[place] = group.after(old_N)
            self.change[place] = self.after[place] - old_N
        return self.change[place]


def _encoded(coder: GraphCoder, x_ND: Tensor) -> Codes:
    with torch.no_grad():
        return coder.sae.encode(x_ND.to(coder.sae.device, coder.sae.b_dec.dtype))


def _activations(coder: GraphCoder, x_ND: Tensor, latent_N: Tensor) -> Tensor:
    """The activation of one latent at each of n vectors."""
    codes = _encoded(coder, x_ND)
    own = codes.indices == latent_N[:, None].to(codes.indices.device)
    return torch.where(own, codes.values, 0.0).sum(-1).float().to(x_ND.device)


def steer_graph(
    prompt: ReplacedPrompt,
    asked: GraphGoals,
    edits: Sequence[PlacedEdit],
    wanted: GraphSteering | None = None,
) -> GraphSteered:
    """Features of a prompt changed, and what that does to the goals of its graph.

    Raises ``DataError`` as ``feature_edits`` does, and for goals that the prompt does not have.
    """
    changed, goals = feature_edits(prompt, edits), goals_of(prompt, asked)
    tokens = []
    if isinstance(asked, LogitDifferenceOf):
        tokens = [token_of(prompt.host, each) for each in (asked.token, asked.other)]
    return steer_prompt(changed, goals, wanted or GraphSteering(), tokens)


def steer_prompt(
    edits: FeatureEdits, goals: Sequence[Goal], wanted: GraphSteering, tokens: Sequence[int] = ()
) -> GraphSteered:
    """Runs the edits and tells what they do.

    ``tokens``: those that are told whatever their probabilities, as goals are about them.
    """
    prompt = edits.prompt
    run = steered_run(edits, goals, wanted.held)
    whole, direct = linear_change(edits), linear_change(edits, following=False)
    about = {*tokens, *(goal.token for goal in goals if goal.token is not None)}
    listed, kl = _tokens(prompt, run.values[FINAL], about, wanted.top)
    return GraphSteered(
        held=wanted.held,
        edited=_edited(edits, run)[:MOST_TOLD],
        edits=len(edits),
        goals=[_goal(goal, prompt, run, whole, direct) for goal in goals],
        tokens=listed,
        kl=kl,
        features=_moved(edits, run, whole, wanted.features),
    )


def _goal(
    goal: Goal, prompt: ReplacedPrompt, run: SteeredRun, whole: LinearChange, direct: LinearChange
) -> SteeredGoal:
    before, after = goal_values(goal, run.values, prompt.layers).tolist()
    return SteeredGoal(
        label=goal.label,
        before=before,
        after=after,
        direct=direct.goal(goal),
        predicted=whole.goal(goal),
    )


def _tokens(
    prompt: ReplacedPrompt, final_BTD: Tensor, about: set[int], top: int
) -> tuple[list[SteeredToken], float]:
    """(what is told of next tokens, divergence of their probabilities)."""
    model, last_BD = prompt.model, final_BTD[:, -1]
    logits_BV = last_BD @ model.unembedding.to(last_BD) + model.logit_bias.to(last_BD)
    logits_BV = logits_BV - logits_BV.mean(-1, keepdim=True)
    log_p_BV = head_logits(prompt, last_BD).double().log_softmax(-1)
    p_BV = log_p_BV.exp()
    kl = float((p_BV[0] * (log_p_BV[0] - log_p_BV[1]).nan_to_num()).sum().clamp_min(0))
    likeliest = p_BV.topk(min(top, p_BV.shape[1])).indices.flatten().tolist()
    ids = sorted({*about, *likeliest}, key=lambda each: (-float(p_BV[:, each].sum()), each))
    decode = prompt.host.tokenizer.decode
    return [
        SteeredToken(
            id=each,
            text=str(decode([each])),
            goal=each in about,
            logit_before=float(logits_BV[0, each]),
            logit_after=float(logits_BV[1, each]),
            probability_before=float(p_BV[0, each]),
            probability_after=float(p_BV[1, each]),
        )
        for each in ids
    ], kl


def head_logits(prompt: ReplacedPrompt, last_BD: Tensor) -> Tensor:
    """The host's own logits ``[B, V]`` of values behind the last norm: its head, with a soft cap
    where it has one, run on a token whose value is put there."""
    host, rows = prompt.host, len(last_BD)
    ids_B1 = torch.tensor([[prompt.ids_T[-1]]]).expand(rows, 1).to(host.device)

    def put(value: Tensor) -> Tensor:
        return last_BD[:, None].to(value)

    with host.opened() as opened, torch.no_grad(), Editor([(final_point(opened), put)], (rows, 1)):
        logits: Tensor = opened.model(input_ids=ids_B1, use_cache=False).logits[:, -1]
    return logits.float()


def _edited(edits: FeatureEdits, run: SteeredRun) -> list[EditedFeature]:
    listed = [
        EditedFeature(
            coder=group.coder.number, latent=latent, position=position, before=before, after=after
        )
        for group, after_N in zip(edits.groups, run.after, strict=True)
        for latent, position, before, after in zip(
            group.latent_N.tolist(),
            group.position_N.tolist(),
            group.clean_N.tolist(),
            after_N.tolist(),
            strict=True,
        )
    ]
    return sorted(listed, key=lambda each: -abs(each.after - each.before))


def _moved(
    edits: FeatureEdits, run: SteeredRun, whole: LinearChange, count: int
) -> list[MovedFeature]:
    """Of all coders' features the ``count`` that change most."""
    parts = [_moves(coder, edits, run, whole) for coder in edits.prompt.model.coders]
    rows = np.concatenate(parts)
    size = np.abs(rows["after"] - rows["before"])
    order = np.argsort(-size, kind="stable")[:count]
    return [
        MovedFeature(
            coder=int(row["coder"]),
            latent=int(row["latent"]),
            position=int(row["position"]),
            before=float(row["before"]),
            after=float(row["after"]),
            predicted=None if np.isnan(row["predicted"]) else float(row["predicted"]),
        )
        for row in rows[order[size[order] > 0]]
    ]


def _moves(
    coder: GraphCoder, edits: FeatureEdits, run: SteeredRun, whole: LinearChange
) -> npt.NDArray[np.void]:
    """All that one coder has before or after, but for what is changed by hand; ``predicted`` is
    NaN of what did not fire when the prompt was read.

    Both rows of the run are encoded: held against activations of another run, what a host's
    rounding turns over would count as moved.
    """
    d_sae, features = coder.sae.d_sae, edits.prompt.features
    (was, before), (now, after) = (_firing(coder, edits.prompt, run, row) for row in (0, 1))
    own_N = features.coder_N == coder.number
    known = (features.position_N[own_N] * d_sae + features.latent_N[own_N]).cpu().numpy()
    by_hand = [at * d_sae + latent for number, at, latent in edits.keys if number == coder.number]
    keys = np.setdiff1d(np.union1d(was, now), by_hand)
    rows = np.zeros(len(keys), _MOVE)
    rows["coder"], rows["position"], rows["latent"] = coder.number, keys // d_sae, keys % d_sae
    rows["predicted"] = np.nan
    for name, places, values in (
        ("before", was, before),
        ("predicted", known, whole.feature_N[own_N]),
        ("after", now, after),
    ):
        left = np.isin(places, keys)
        rows[name][np.searchsorted(keys, places[left])] = values.float().cpu().numpy()[left]
    return rows


def _firing(
    coder: GraphCoder, prompt: ReplacedPrompt, run: SteeredRun, row: int
) -> tuple[npt.NDArray[np.int64], Tensor]:
    """(tokens times latents plus latent, activations) of what fires in a row of the run."""
    x_TD = torch.cat([run.values[str(site)][row] for site in coder.reads], dim=-1)
    at_N = prompt.coded_T[coder.number].nonzero()[:, 0]
    codes = _encoded(coder, x_TD[at_N])
    fires_NK = codes.values > 0
    place_NK = at_N.to(codes.indices.device)[:, None] * coder.sae.d_sae + codes.indices
    return place_NK[fires_NK].cpu().numpy(), codes.values[fires_NK]
