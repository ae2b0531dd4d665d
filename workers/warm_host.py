"""A host model that several requests use: one thread runs it, and what waits is read in batches.

Module hooks belong to the model, so whatever hooks it is one turn on its thread.  Turns (a step of
a text that is being written) and batches of rows to be read take that thread one after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from workers.failures import is_out_of_memory
from workers.prompts import Tokenizing

MAX_TOKENS = 2048
"""Longest row."""
BATCH_TOKENS = 2048
"""Padded tokens of a batch of several rows: it holds the thread, so others wait for it."""
_LEAST_FILLED = 0.75
"""Share of a batch's tokens that are no padding."""

T = TypeVar("T")


@dataclass(frozen=True)
class Use:
    """An SAE and the site where it reads."""

    sae: SAE
    site: str
    unexplained: bool = False
    """Also what the SAE leaves unexplained; for one that reconstructs what it reads."""

    @property
    def key(self) -> tuple[int, str]:
        return id(self.sae), self.site


class Coded(NamedTuple):
    """What a use of a row gives, on the CPU."""

    codes: Codes
    unexplained: Tensor | None
    """``[n]``: ``unexplained_share`` of each token, where it was asked for."""


@dataclass(frozen=True)
class Row:
    """Token ids to be read at once, and the SAEs that their activations go to."""

    ids: Sequence[int]
    skip: int
    """So many tokens at the start (a BOS) are read and not encoded."""
    uses: tuple[Use, ...]

    @property
    def sites(self) -> frozenset[str]:
        return frozenset(use.site for use in self.uses)


@dataclass(eq=False)
class _Waiting:
    row: Row
    result: Future[list[Coded]] = field(default_factory=Future)


class WarmHost:
    """Thread-safe.  Its thread ends once nobody holds it and nothing waits."""

    def __init__(self, host: HostModel) -> None:
        self.host = host
        self.words = Tokenizing(host.tokenizer, host.name)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="host")
        self._waiting: list[_Waiting] = []
        self._scheduled = False
        self._lock = threading.Lock()

    @property
    def longest(self) -> int:
        """Tokens that the host model can read at once."""
        limit = self.host.abilities.positions
        return MAX_TOKENS if limit is None else min(MAX_TOKENS, limit)

    def turn(self, work: Callable[[], T]) -> T:
        """Runs ``work`` on the host's thread, and waits for it."""
        return self._thread.submit(work).result()

    def read(self, rows: Sequence[Row]) -> list[list[Coded]]:
        """For each row, what each of its uses gives; codes are ``[len(ids) - skip, k]``.

        Rows that wait at the same time, of this call or others, are read together where they have
        the same sites and like lengths.  Raises ``DataError`` for a row that the model cannot read
        and for an SAE that does not fit its site; ``UnknownSite``.
        """
        for row in rows:
            self._check(row)
        waiting = [_Waiting(row) for row in rows]
        with self._lock:
            self._waiting += waiting
            if waiting and not self._scheduled:
                self._scheduled = True
                self._thread.submit(self._next)
        return [each.result.result() for each in waiting]

    def _check(self, row: Row) -> None:
        tokens, room = len(row.ids) - row.skip, self.longest - row.skip
        if not 1 <= tokens <= room:
            raise DataError(f"The text has {tokens} tokens; 1 to {room} can be read.")
        self.host.check_ids(torch.tensor(row.ids))
        for use in row.uses:
            width = self.host.site_width(use.site)
            if width != use.sae.d_in:
                raise DataError(
                    f"The SAE reads vectors of length {use.sae.d_in}; {use.site} of "
                    f"{self.host.name} has {width}."
                )

    def _next(self) -> None:
        """One batch; the next is put behind the turns that have come meanwhile."""
        try:
            with self._lock:
                batch = self._taken()
            self._run(batch)
        finally:
            with self._lock:
                self._scheduled = bool(self._waiting)
                if self._scheduled:
                    self._thread.submit(self._next)

    def _taken(self) -> list[_Waiting]:
        """The one that has waited longest, and of those with its sites what is about as long."""
        first = self._waiting[0]
        length, sites = len(first.row.ids), first.row.sites
        alike = [each for each in self._waiting[1:] if each.row.sites == sites]
        alike.sort(key=lambda each: abs(len(each.row.ids) - length))
        batch, real, longest = [first], length, length
        for each in alike:
            more = len(each.row.ids)
            padded = max(longest, more) * (len(batch) + 1)
            if padded > BATCH_TOKENS or real + more < _LEAST_FILLED * padded:
                break
            batch.append(each)
            real, longest = real + more, max(longest, more)
        chosen = set(map(id, batch))
        self._waiting = [each for each in self._waiting if id(each) not in chosen]
        return batch

    def _run(self, batch: Sequence[_Waiting]) -> None:
        try:
            coded_rows = read_rows(self.host, [each.row for each in batch])
        except Exception as error:
            if len(batch) == 1:
                # The frames of the failure hold tensors.
                lean = error.with_traceback(None) if is_out_of_memory(error) else error
                batch[0].result.set_exception(lean)
                return
        else:
            for each, coded in zip(batch, coded_rows, strict=True):
                each.result.set_result(coded)
            return
        # What fails in company may do alone; here, where the failure's tensors are let go.
        for each in batch:
            self._run([each])


def read_rows(host: HostModel, rows: Sequence[Row]) -> list[list[Coded]]:
    """One truncated forward of all rows, padded on the right, and one encoding for each use.

    All rows have the same sites.  On the CPU, as ``WarmHost.read`` gives them.
    """
    lengths = [len(row.ids) for row in rows]
    ids_BS = torch.full((len(rows), max(lengths)), host.pad_id)
    mask_BS = torch.zeros_like(ids_BS)
    for number, row in enumerate(rows):
        ids_BS[number, : len(row.ids)] = torch.tensor(row.ids)
        mask_BS[number, : len(row.ids)] = 1
    every = [use for row in rows for use in row.uses]
    saes = {use.key: use.sae for use in every}
    asked = {use.key for use in every if use.unexplained}
    coded_rows: list[dict[tuple[int, str], Coded]] = [{} for _ in rows]
    with torch.no_grad():
        captured = host.capture(ids_BS, mask_BS, sorted(rows[0].sites))
        for key, sae in saes.items():
            own = [n for n, row in enumerate(rows) if any(use.key == key for use in row.uses)]
            acts = [captured[key[1]][n, rows[n].skip : lengths[n]] for n in own]
            x_ND = torch.cat(acts).float()
            codes = sae.encode(x_ND)
            share_N = unexplained_share(sae, codes, x_ND).cpu() if key in asked else None
            indices_NK, values_NK = codes.indices.cpu(), codes.values.float().cpu()
            ends = accumulate((len(each) for each in acts), initial=0)
            for number, (start, end) in zip(own, pairwise(ends), strict=True):
                coded_rows[number][key] = Coded(
                    Codes(indices_NK[start:end], values_NK[start:end]),
                    None if share_N is None else share_N[start:end],
                )
    return [
        [coded[use.key] for use in row.uses] for row, coded in zip(rows, coded_rows, strict=True)
    ]


def unexplained_share(sae: SAE, codes: Codes, x_ND: Tensor) -> Tensor:
    """``[n]``: squared distance of the reconstruction from ``x_ND``, over that of the decoder bias,
    which is what the SAE says where nothing fires; 0 where the latter is 0.

    For an SAE that reconstructs what it reads.
    """
    missed_N = (x_ND - sae.decode(codes, x_ND)).square().sum(-1)
    whole_N = (x_ND - sae.b_dec).square().sum(-1)
    return torch.where(whole_N > 0, missed_N / whole_N, 0.0)
