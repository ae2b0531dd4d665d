"""The replacement model: a host, and the coders that stand for its MLPs and its attention.

A coder of MLPs reads one place or several of the stream (``hook_resid_mid``, ``mlp.hook_in``, ...)
and writes what MLPs add to it (``hook_mlp_out``): a transcoder of one layer, or a cross-layer
transcoder of all.  Layers that none writes keep their MLPs, whose outputs are errors.  A coder of
attention is an SAE of one layer's ``attn.hook_z`` or ``hook_attn_out``, whose features stand for
what was there.  Layers without one keep their attention, through which edges go with the pattern
held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models import sites as kinds
from monosemy.models.host import HostModel
from monosemy.models.sites import Site, parse_site
from monosemy.saes.base import SAE

ATTENTION_SITES = (kinds.Z, kinds.ATTN_OUT)
"""What coders of attention reconstruct."""

_NO_MORE_ROWS = 1 << 22
"""Numbers of encoder or decoder rows that are looked at together."""


@dataclass(frozen=True)
class GraphCoder:
    """One coder of the set, number ``number``, with the columns of its places."""

    number: int
    hosted: HostedSAE
    reads: dict[Site, slice]
    """In the order of the columns."""
    writes: dict[int, slice]
    """By layer, ascending."""

    @property
    def sae(self) -> SAE:
        return self.hosted.sae

    @cached_property
    def attention(self) -> Site | None:
        """Where an SAE of attention stands; None of a coder of MLPs."""
        site = next(iter(self.reads))
        return site if site.kind in ATTENTION_SITES else None

    def written_site(self, layer: int) -> Site:
        """Where it writes in a layer."""
        return self.attention or Site(layer, kinds.MLP_OUT)

    @cached_property
    def b_dec(self) -> Tensor:
        """``[d_out]`` float32."""
        return self.sae.b_dec.detach().float()

    @cached_property
    def _offset(self) -> Tensor:
        """What the encoder takes off its input: ``centre(0)``, ``[d_in]``."""
        with torch.no_grad():
            return self.sae.centre(self.sae.b_dec.new_zeros(1, self.sae.d_in))[0].detach()

    def encoder(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(rows ``[n, d_in]``, biases ``[n]``): ``x @ row + bias`` is the pre-activation."""
        rows_ND, bias_N = self.sae.encoder_rows(latents)
        return rows_ND.float(), (bias_N + rows_ND @ self._offset).float()

    def decoder(self, latents: Tensor, layer: int) -> Tensor:
        """What latents write at a layer, ``[n, D]`` float32."""
        return self.sae.decoder_rows(latents)[:, self.writes[layer]].float()

    def skips(self, layer: int) -> Iterator[tuple[Site, Tensor]]:
        """The linear paths to a layer: (place, ``[D, width]``) of those that are not 0."""
        matrix = self.sae.skip_matrix()
        if matrix is None:
            return
        for site, columns in self.reads.items():
            part = matrix[self.writes[layer], columns].detach().float()
            if bool(part.any()):
                yield site, part

    def layers_read(self, latents: Tensor) -> Tensor:
        """The last layer that each of these latents reads, int64 ``[n]`` on the CPU."""
        places = list(self.reads.items())
        layers = torch.tensor([site.layer for site, _ in places])
        if len(places) == 1:
            return layers.expand(len(latents)).clone()
        step = max(1, _NO_MORE_ROWS // self.sae.d_in)
        parts = []
        for start in range(0, len(latents), step):
            rows_ND, _ = self.sae.encoder_rows(latents[start : start + step])
            reads_NP = torch.stack([rows_ND[:, at].any(dim=1) for _, at in places], dim=1).cpu()
            parts.append(torch.where(reads_NP, layers, layers.min()).amax(dim=1))
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


class ReplacementModel:
    """A host with a set of coders.

    Raises ``DataError`` for coders that do not fit together: hooked in another host, writing
    something else than ``hook_mlp_out`` and being no SAE of attention, two that write one layer's
    MLP or attention, or reading behind what they write.
    """

    def __init__(self, host: HostModel, coders: Sequence[HostedSAE], whole_tokens: int = 1) -> None:
        """``whole_tokens``: of this many first tokens an MLP's output is one error, and no feature:
        they hold the attention sink, for which coders are not trained."""
        self.host = host
        self.whole_tokens = whole_tokens
        self.coders = [_coder(host, number, each) for number, each in enumerate(coders)]
        self.writer: dict[int, GraphCoder] = {}
        """The coder that writes each layer's MLP output."""
        self.attention_writer: dict[int, GraphCoder] = {}
        """The SAE that stands for each layer's attention."""
        for coder in self.coders:
            writers = self.writer if coder.attention is None else self.attention_writer
            for layer in coder.writes:
                if layer in writers:
                    what = kinds.MLP_OUT if coder.attention is None else "attention"
                    raise DataError(
                        f"Two coders of the set write blocks.{layer}'s {what}.",
                        "Take one for each layer.",
                    )
                writers[layer] = coder

    @cached_property
    def unembedding(self) -> Tensor:
        """W_U ``[D, V]`` float32."""
        return self.host.unembedding()[0].to(self.host.device)

    @cached_property
    def mean_unembedding(self) -> Tensor:
        """The mean of its columns, ``[D]``: what every logit has in common."""
        return self.unembedding.mean(dim=1)

    @cached_property
    def logit_bias(self) -> Tensor:
        """``[V]``; zeros where the unembedding has none."""
        with self.host.opened() as opened:
            bias = getattr(opened.model.get_output_embeddings(), "bias", None)
        if bias is None:
            return self.unembedding.new_zeros(self.unembedding.shape[1])
        return bias.detach().float()


def _coder(host: HostModel, number: int, hosted: HostedSAE) -> GraphCoder:
    hooks, where = hosted.hooks, f"Coder {number} of the set"
    if hosted.host is not host:
        raise DataError(f"{where} is hooked in another host model.")
    if hooks.other_hosts:
        raise DataError(f"{where} reads several host models; a graph is of one.")
    writes = {parse_site(hook.site): part for hook, part in hooks.written_parts.items()}
    reads = {parse_site(hook.site): part for hook, part in hooks.read_parts.items()}
    other = [site for site in writes if site.kind != kinds.MLP_OUT]
    if other and list(reads) == list(writes) == other[:1] and other[0].kind in ATTENTION_SITES:
        if hosted.sae.skip_matrix() is not None:
            raise DataError(f"{where} has a linear path around its features at {other[0]}.")
        return GraphCoder(number, hosted, reads, {other[0].layer: writes[other[0]]})
    if other:
        raise DataError(
            f"{where} reads {', '.join(map(str, reads))} and writes {other[0]}; a graph replaces "
            "what MLPs add to the stream, or one layer's attention.",
            f"Take transcoders that write blocks.N.{kinds.MLP_OUT}, and SAEs that read and write "
            f"one blocks.N.{kinds.Z} or blocks.N.{kinds.ATTN_OUT}.",
        )
    layers = sorted(((site.layer, part) for site, part in writes.items()), key=lambda each: each[0])
    first_written, first_read = layers[0][0], min(site.layer for site in reads)
    if first_written < first_read:
        raise DataError(f"{where} writes blocks.{first_written} before it has read.")
    behind = [site for site in reads if site.kind in (kinds.MLP_OUT, kinds.RESID_POST)]
    if behind:
        raise DataError(f"{where} reads {behind[0]}, which is made of what it stands for.")
    return GraphCoder(number, hosted, reads, dict(layers))
