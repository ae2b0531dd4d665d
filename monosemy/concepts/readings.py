"""Texts as a host model and an SAE read them.  Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.data.characters import encodable
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.models.rows import batches, padded
from monosemy.saes.codes import Codes

TOKENS_AT_ONCE = 8192
"""Of one forward of the host model."""
MOST_BYTES = 2**30
"""Of the activations of all texts together."""


@dataclass(frozen=True)
class Readings:
    """The tokens of several texts, one after the other; BOS is left out."""

    x_TD: Tensor
    """Activations ``[tokens, d]``, float32 on the CPU."""
    codes: Codes
    starts: tuple[int, ...]
    """Number of the first token of each text, and of all tokens at the end."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def of(self, text: int) -> slice:
        """The tokens of a text."""
        return slice(self.starts[text], self.starts[text + 1])

    def part(self, first: int, end: int) -> Readings:
        """Those texts alone."""
        tokens = slice(self.starts[first], self.starts[end])
        codes = Codes(self.codes.indices[tokens], self.codes.values[tokens])
        starts = tuple(each - tokens.start for each in self.starts[first : end + 1])
        return Readings(self.x_TD[tokens], codes, starts)

    def each_text(self, values_T: Tensor) -> Tensor:
        """The largest of each text, ``[texts]``."""
        return torch.stack([values_T[self.of(text)].max() for text in range(len(self))])

    def means(self, values_TD: Tensor) -> Tensor:
        """Over the tokens of each text, ``[texts, d]``."""
        return torch.stack([values_TD[self.of(text)].mean(0) for text in range(len(self))])

    def strongest(self, text: int, d_sae: int) -> Tensor:
        """Maximum of every latent over the tokens of a text, ``[d_sae]``."""
        indices, values = (each[self.of(text)].flatten() for each in self.codes)
        return torch.zeros(d_sae).scatter_reduce(0, indices, values.float(), "amax")


def token_rows(host: HostModel, texts: Sequence[str], prepend_bos: bool) -> list[list[int]]:
    """Ids of each text with its BOS, and the EOS of a text encoder.  ``DataError`` for a text
    without tokens, or too long."""
    bos = [host.bos_id] if prepend_bos and host.bos_id is not None else []
    end = [] if host.abilities.text_end is None else [host.abilities.text_end]
    limit = host.abilities.positions
    rows = []
    for text in texts:
        ids = host.tokenizer(encodable(text)[0], add_special_tokens=False)["input_ids"]
        if not ids:
            raise DataError(f"A text has no tokens: {text!r:.80}.")
        row = [*bos, *map(int, ids), *end]
        if limit is not None and len(row) > limit:
            raise DataError(
                f"A text has {plural(len(row), 'token')}; {host.name} reads {limit} at once:"
                f" {text!r:.80}.",
                "Give shorter texts.",
            )
        rows.append(row)
    return rows


@torch.no_grad()
def read_texts(
    hosted: HostedSAE, texts: Sequence[str], prepend_bos: bool, advance: Callable[[int], None]
) -> Readings:
    """``advance`` is told of texts read.  ``DataError`` as ``token_rows``, and for texts that are
    too many to hold."""
    host, site = hosted.host, hosted.site
    rows = token_rows(host, texts, prepend_bos)
    skip = int(prepend_bos and host.bos_id is not None)
    tokens, width = sum(len(row) - skip for row in rows), host.site_width(site)
    if tokens * width * 4 > MOST_BYTES:
        raise DataError(
            f"The texts have {plural(tokens, 'token')} of {plural(width, 'number')};"
            f" {MOST_BYTES // (width * 4):,}"
            " tokens can be held.",
            "Give fewer or shorter texts.",
        )
    order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
    parts: list[tuple[Tensor, Tensor, Tensor]] = [(torch.empty(0),) * 3] * len(rows)
    ordered = [rows[number] for number in order]
    for chosen in batches(ordered, 1, TOKENS_AT_ONCE):
        ids_BS, mask_BS = padded(ordered[chosen], host.pad_id)
        acts_BSD = host.capture(ids_BS, mask_BS, [site])[site]
        for place, number in enumerate(order[chosen]):
            x_ND = acts_BSD[place, skip : len(rows[number])].float()
            codes = hosted.sae.encode(x_ND.to(hosted.sae.device))
            parts[number] = x_ND.cpu(), codes.indices.cpu(), codes.values.float().cpu()
        advance(len(ordered[chosen]))
    starts = [0]
    for x_ND, _, _ in parts:
        starts.append(starts[-1] + len(x_ND))
    wide = max(indices.shape[1] for _, indices, _ in parts)
    codes = Codes(
        torch.cat([_widened(indices, wide) for _, indices, _ in parts]),
        torch.cat([_widened(values, wide) for _, _, values in parts]),
    )
    return Readings(torch.cat([x_ND for x_ND, _, _ in parts]), codes, tuple(starts))


def _widened(values_NK: Tensor, wide: int) -> Tensor:
    return torch.nn.functional.pad(values_NK, (0, wide - values_NK.shape[1]))
