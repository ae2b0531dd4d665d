"""Activations at named tokens of prompts: read, and put in place.  Needs torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.tasks.examples import Example
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.interventions.edits import Interventions
from monosemy.interventions.intervention import Function, Intervention, Where, replace
from monosemy.models.host import HostModel

ROWS_AT_ONCE = 16
_KEPT_BYTES = 1_000_000_000
"""Of caches of what stands before the first node of prompts: it is read once, however often the
nodes are changed."""

Acts = Mapping[str, Tensor]
"""By site: activations ``[n, P, d]`` in float32 at the positions of ``Nodes``."""


@dataclass(frozen=True)
class Nodes:
    """Which activations are looked at: every site at every position."""

    sites: tuple[str, ...]
    positions: tuple[str, ...]

    def at(self, *sites: str) -> Nodes:
        """These sites alone."""
        return Nodes(sites, self.positions)


@dataclass(frozen=True)
class Outcome:
    """What a host model answers to n prompts."""

    difference: npt.NDArray[np.float64]
    """``[n]``: logit of the answer less that of the wrong answer, nats."""
    first: npt.NDArray[np.int64]
    """``[n]``: the likeliest token."""
    first_answer: npt.NDArray[np.int64]
    """``[n]``: the likeliest of the tokens that answer, or wrongly answer, some prompt."""


class Rows:
    """Prompts as rows of token ids with BOS, where the host model has one and it is wanted."""

    def __init__(
        self,
        host: HostModel,
        examples: Sequence[Example],
        positions: Sequence[str],
        prepend_bos: bool = True,
        answers: Collection[int] = (),
    ) -> None:
        """``answers``: tokens that may answer, beside those of these prompts.

        ``DataError`` for a position that a prompt does not have, for two that are one token, for a
        prompt longer than the host model reads, and for one with several answers.
        """
        bos = [host.bos_id] if prepend_bos and host.bos_id is not None else []
        limit = host.abilities.positions
        self.examples = tuple(examples)
        self.ids: list[list[int]] = []
        places: list[list[int]] = []
        for number, each in enumerate(examples, 1):
            row = [*bos, *each.ids]
            if limit is not None and len(row) > limit:
                raise DataError(
                    f"A prompt has {plural(len(row), 'token')}; {host.name} reads {limit} at once:"
                    f" {each.text!r:.80}."
                )
            if len(each.right) != 1 or len(each.wrong) != 1:
                raise DataError(f"Prompt {number} needs one answer and one wrong answer.")
            own = [each.places.get(name) for name in positions]
            if None in own:
                missing = positions[own.index(None)]
                raise DataError(
                    f"The prompts have no position '{missing}'.",
                    f"They have {', '.join(each.places)}.",
                )
            if len(set(own)) < len(own):
                raise DataError(
                    f"Two of the positions {', '.join(positions)} are one token: {each.text!r:.80}."
                )
            self.ids.append(row)
            places.append([place + len(bos) for place in own if place is not None])
        self._prefixes: dict[tuple[int, ...], object] = {}
        self._kept = 0
        self.places_NP = torch.tensor(places, dtype=torch.long).view(len(places), len(positions))
        self.answers_N2 = torch.tensor([[e.right[0], e.wrong[0]] for e in examples]).view(-1, 2)
        self.answers_A = torch.tensor(sorted({*answers, *self.answers_N2.flatten().tolist()}))

    def __len__(self) -> int:
        return len(self.ids)

    def batches(
        self, rows: Sequence[int], one_length: bool = False
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """(places in ``rows``, ids ``[B, S]``, mask ``[B, S]``), like lengths together, or with
        ``one_length`` equal ones alone."""
        order = sorted(range(len(rows)), key=lambda place: len(self.ids[rows[place]]))
        for chosen in _chunks(order, [len(self.ids[rows[place]]) for place in order], one_length):
            length = max(len(self.ids[rows[place]]) for place in chosen)
            ids_BS = torch.zeros(len(chosen), length, dtype=torch.long)
            mask_BS = torch.zeros(len(chosen), length, dtype=torch.long)
            for b, place in enumerate(chosen):
                row = self.ids[rows[place]]
                ids_BS[b, : len(row)] = torch.tensor(row)
                mask_BS[b, : len(row)] = 1
            yield chosen, ids_BS, mask_BS

    def prefix(self, host: HostModel, rows: Sequence[int], ids_BP: Tensor) -> object:
        """A cache of keys and values of ``ids_BP``, how these rows begin, to be used up."""
        key = tuple(rows)
        if key in self._prefixes:
            return copy.deepcopy(self._prefixes[key])
        _, cache = host.extend(ids_BP)
        size = _bytes(cache)
        if size is not None and self._kept + size <= _KEPT_BYTES:
            self._kept += size
            self._prefixes[key] = copy.deepcopy(cache)
        return cache


def _chunks(order: list[int], lengths: list[int], one_length: bool) -> Iterator[list[int]]:
    start = 0
    while start < len(order):
        end = min(start + ROWS_AT_ONCE, len(order))
        if one_length:
            end = next((i for i in range(start, end) if lengths[i] != lengths[start]), end)
        yield order[start:end]
        start = end


def _bytes(cache: object) -> int | None:
    """Of keys and values; None for a cache of another kind."""
    layers = getattr(cache, "layers", None)
    if not layers:
        return None
    tensors = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    if any(not isinstance(each, Tensor) for each in tensors):
        return None
    return sum(each.nbytes for each in tensors if isinstance(each, Tensor))


Advance = Callable[[int], None]


@torch.no_grad()
def read(host: HostModel, rows: Rows, nodes: Nodes, advance: Advance) -> dict[str, Tensor]:
    """Clean activations at the nodes; ``advance`` is told of prompts done."""
    positions = rows.places_NP.shape[1]
    acts = {site: torch.empty(len(rows), positions, host.site_width(site)) for site in nodes.sites}
    for chosen, ids_BS, mask_BS in rows.batches(range(len(rows))):
        captured = host.capture(ids_BS, mask_BS, nodes.sites)
        at_BP = rows.places_NP[chosen]
        batch_B1 = torch.arange(len(chosen))[:, None]
        for site in nodes.sites:
            acts[site][chosen] = captured[site].float().cpu()[batch_B1, at_BP]
        advance(len(chosen))
    return acts


@torch.no_grad()
def answer(
    host: HostModel,
    rows: Rows,
    advance: Advance,
    chosen: Sequence[int] | None = None,
    acts: Acts | None = None,
) -> Outcome:
    """What the host model answers to the rows ``chosen`` (all of them if None; one may come more
    than once) with ``acts`` ``[len(chosen), P, d]`` in place of its own at the nodes, at all of
    them at once."""
    taken = list(range(len(rows))) if chosen is None else list(chosen)
    difference = np.empty(len(taken))
    first, first_answer = np.empty((2, len(taken)), np.int64)
    for places, last_BV in _answers(host, rows, advance, taken, acts):
        at = [taken[place] for place in places]
        answers_B2 = last_BV.gather(1, rows.answers_N2[at].to(last_BV.device))
        difference[places] = (answers_B2[:, 0] - answers_B2[:, 1]).double().cpu().numpy()
        first[places] = last_BV.argmax(1).cpu().numpy()
        among_B = last_BV[:, rows.answers_A.to(last_BV.device)].argmax(1).cpu()
        first_answer[places] = rows.answers_A[among_B].numpy()
    if not np.isfinite(difference).all():
        raise DataError("The host model's logits are not all finite numbers.")
    return Outcome(difference, first, first_answer)


@torch.no_grad()
def answer_logits(
    host: HostModel, rows: Rows, tokens_NT: Tensor, advance: Advance, acts: Acts | None = None
) -> npt.NDArray[np.float64]:
    """Logits ``[N, T]`` of these tokens (int64) as what follows all rows, with ``acts`` as in
    ``answer``."""
    logits_NT = np.empty(tuple(tokens_NT.shape))
    for places, last_BV in _answers(host, rows, advance, list(range(len(rows))), acts):
        chosen_BT = last_BV.gather(1, tokens_NT[places].to(last_BV.device))
        logits_NT[places] = chosen_BT.double().cpu().numpy()
    if not np.isfinite(logits_NT).all():
        raise DataError("The host model's logits are not all finite numbers.")
    return logits_NT


def _answers(
    host: HostModel, rows: Rows, advance: Advance, taken: list[int], acts: Acts | None
) -> Iterator[tuple[list[int], Tensor]]:
    """(places in ``taken``, float32 logits ``[B, V]`` of what follows the rows there)."""
    for places, ids_BS, mask_BS in rows.batches(taken, host.abilities.cache):
        at = [taken[place] for place in places]
        values = {} if acts is None else {site: each[places] for site, each in acts.items()}
        yield places, _last_logits(host, rows, at, ids_BS, mask_BS, values).float()
        advance(len(places))


def _last_logits(
    host: HostModel,
    rows: Rows,
    at: list[int],
    ids_BS: Tensor,
    mask_BS: Tensor,
    acts: Acts,
) -> Tensor:
    """Logits ``[B, V]`` of what follows the rows ``at``, ``acts`` in place of their own.

    What stands before the first node is read once where the host model has a cache: nothing that is
    changed later reaches it.
    """
    places_BP = rows.places_NP[at]
    first = int(places_BP.min()) if host.abilities.cache else 0
    changes = [
        _put(site, values, places_BP - first, (len(at), ids_BS.shape[1] - first))
        for site, values in acts.items()
    ]
    where_BS = mask_BS[:, first:].bool()
    edits = Interventions(changes).edits(where_BS, first) if changes else None
    if host.abilities.cache:
        cache = rows.prefix(host, at, ids_BS[:, :first]) if first else None
        return host.extend(ids_BS[:, first:], cache, edits)[0]
    logits_BSV = host.logits(ids_BS, mask_BS, edits)
    batch_B = torch.arange(len(at), device=logits_BSV.device)
    return logits_BSV[batch_B, (mask_BS.sum(1) - 1).to(logits_BSV.device)]


def _put(site: str, values_BPD: Tensor, at_BP: Tensor, shape: tuple[int, int]) -> Intervention:
    """The intervention that has these activations at these tokens."""
    batch_B1 = torch.arange(shape[0])[:, None]
    made_BSD = torch.zeros(*shape, values_BPD.shape[-1])
    made_BSD[batch_B1, at_BP] = values_BPD
    where_BS = torch.zeros(shape, dtype=torch.bool)
    where_BS[batch_B1, at_BP] = True
    return replace(
        Function(partial(_known, made_BSD.flatten(0, 1)), site),
        where=Where(when=partial(_known, where_BS)),
    )


def _known(value: Tensor, acts: Tensor) -> Tensor:
    """A value that is there already, whatever the activations are."""
    return value.to(acts.device)
