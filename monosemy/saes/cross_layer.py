"""What cross-layer transcoders share, whatever makes their codes sparse.

Latents read one layer each and write it and those after (Ameisen et al. 2025, "Circuit Tracing",
section 2.1): ``a_l = act(x_l @ W_enc^l + b_enc^l)``, ``y_m = sum over l <= m of a_l @ W_dec^{l->m}
+ b_dec^m``.  What is read stands side by side, ``x [n, L * d_in']``, and so does what is written;
latent ``l * F + f`` is number f of layer l, and a token's codes are those of all layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from monosemy.errors import DataError
from monosemy.saes.base import SAE, Factor
from monosemy.saes.codes import Codes
from monosemy.saes.layered_decoders import LayeredDecoder, SharedDecoder, TriangularDecoder
from monosemy.saes.ragged import Entries, entries_of, entry_values
from monosemy.specs.places import CrossLayerOptions


class CrossLayer(SAE):
    """Stands before an architecture among the bases of a class, and replaces its weights.

    ``W_enc [d_in / L, d_sae]``: each column multiplies its own layer's part alone.  The decoder is
    a ``LayeredDecoder``; there is no ``W_dec``.
    """

    decoder: LayeredDecoder

    @property
    def options(self) -> CrossLayerOptions:
        assert isinstance(self.spec, CrossLayerOptions)
        return self.spec

    def create_weights(self) -> None:
        """``ValueError`` where latents or widths do not divide by the layers."""
        self.layers = self.options.places or 1
        for name in ("d_sae", "d_in", "d_out"):
            if getattr(self, name) % self.layers:
                raise ValueError(
                    f"{name} ({getattr(self, name)}) does not divide by {self.layers} layers"
                )
        self.size = self.d_sae // self.layers
        """Latents of a layer."""
        # Laid out latent by latent, as elsewhere.
        self.W_enc = nn.Parameter(torch.zeros(self.d_sae, self.d_in // self.layers).T)
        self.b_enc = nn.Parameter(torch.zeros(self.d_sae))
        kind = SharedDecoder if self.options.incremental else TriangularDecoder
        self.decoder = kind(self.layers, self.size, self.d_out // self.layers)
        self.b_dec = nn.Parameter(torch.zeros(self.d_out))
        if getattr(self.spec, "skip", False):
            shape = (self.layers, self.d_out // self.layers, self.d_in // self.layers)
            self.W_skip = nn.Parameter(torch.zeros(shape))

    def decoder_parameters(self) -> list[nn.Parameter]:
        return list(self.decoder.parameters())

    @torch.no_grad()
    def initialise_directions(self, generator: torch.Generator) -> None:
        """Unit rows at random; an encoder column is what its latent writes at its own layer where
        that is what it reads, and otherwise at random too."""
        self.decoder.initialise(generator)
        shape = (self.layers, self.size, -1)
        columns = self.W_enc.T.view(shape)
        if getattr(self.spec, "initial_encoder", "unit") == "uniform" and self.transcodes:
            rows = torch.rand(columns.shape, generator=generator) * 2 - 1
            columns.copy_(rows / self.size**0.5)
            return
        if self.transcodes:
            columns.copy_(torch.randn(columns.shape, generator=generator))
        else:
            width = self.decoder.width
            for layer in range(self.layers):
                latents = layer * self.size + torch.arange(self.size)
                own = slice(layer * width, (layer + 1) * width)
                columns[layer] = self.decoder.rows(latents)[:, own]
        columns.div_(columns.norm(dim=2, keepdim=True).clamp_min(1e-12))

    def encoder_input(self, x_ND: Tensor) -> Tensor:
        """``[n, L, d_in / L]``."""
        return self.centre(x_ND).unflatten(1, (self.layers, -1))

    def encoder_rows(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.W_enc.new_zeros(len(latents), self.layers, self.W_enc.shape[0])
        here = torch.arange(len(latents), device=rows.device)
        rows[here, latents // self.size] = self.W_enc.T[latents].detach()
        return rows.flatten(1), self.b_enc[latents].detach()

    def decoder_rows(self, latents: Tensor | slice) -> Tensor:
        if isinstance(latents, slice):
            latents = torch.arange(self.d_sae, device=self.device)[latents]
        return self.decoder.rows(latents.to(self.device))

    def decoder_norms(self) -> Tensor:
        return self.decoder.block_norms().norm(dim=1)

    def skip_matrix(self) -> Tensor | None:
        """Block by block in ``W_skip [L, d_out / L, d_in / L]``; here whole, a copy."""
        return torch.block_diag(*self.W_skip) if hasattr(self, "W_skip") else None

    def skipped(self, x_ND: Tensor) -> Tensor:
        x_NLd = x_ND.unflatten(1, (self.layers, -1))
        return torch.einsum("nld,led->nle", x_NLd, self.W_skip).flatten(1)

    def with_gradient(self, z_ND: Tensor, indices: Tensor, values: Tensor) -> Codes:
        if not (torch.is_grad_enabled() and (z_ND.requires_grad or self.W_enc.requires_grad)):
            return Codes(indices, values)
        # By entries, which rise.
        indices, order = indices.sort(dim=1)
        codes = Codes(indices, values.gather(1, order))
        entries = entry_values(entries_of(codes), z_ND, self.W_enc, self.b_enc)
        where = (codes.values > 0).nonzero(as_tuple=True)
        return Codes(indices, torch.zeros_like(codes.values).index_put(where, entries.values))

    def decoded(self, entries: Entries, n: int) -> Tensor:
        return self.decoder.sums(self.decoder.split(entries), n)

    def decode_without_bias(self, codes: Codes) -> Tensor:
        return self.decoded(entries_of(codes), len(codes.values))

    def dense_pre_activations(
        self, x_ND: Tensor, b_enc: Tensor, latents: Tensor | None = None
    ) -> Tensor:
        z_NLD, columns = self.encoder_input(x_ND), self.W_enc.T.unflatten(0, (self.layers, -1))
        bias = b_enc if latents is None else b_enc[latents]
        parts = [
            z_NLD[:, layer] @ (columns[layer] if own is None else columns[layer][own]).T
            for layer, own in enumerate(self._by_layer(latents))
        ]
        return torch.cat(parts, dim=1) + bias

    def dense_decoded(self, acts: Tensor, latents: Tensor | None = None) -> Tensor:
        own = self._by_layer(latents)
        counts = [self.size if each is None else len(each) for each in own]
        return self.decoder.dense(acts.split(counts, dim=1), own)

    def _by_layer(self, latents: Tensor | None) -> Sequence[Tensor | None]:
        """Rising latents by layer, numbered within it; None for all of each."""
        if latents is None:
            return [None] * self.layers
        ends = torch.arange(1, self.layers, device=latents.device) * self.size
        return (latents % self.size).tensor_split(torch.searchsorted(latents, ends).cpu())

    def rescale_directions(self, input_factor: Factor, output_factor: Factor, unit: float) -> None:
        factor = input_factor
        if isinstance(factor, Tensor):
            factor = factor.view(self.layers, 1, -1)
        self.W_enc.T.unflatten(0, (self.layers, -1)).mul_(factor / unit)
        if isinstance(output_factor, Tensor):
            self.decoder.scale(unit / output_factor)
        if hasattr(self, "W_skip"):
            out = output_factor
            if isinstance(out, Tensor):
                out = out.view(self.layers, -1, 1)
            self.W_skip.mul_(factor / out)

    def normalise_decoder(self) -> None:
        self.decoder.normalise()

    def project_decoder_gradient(self) -> None:
        self.decoder.project_gradient()

    def figures(self, activity_F: Tensor, places: Sequence[str]) -> dict[str, Any]:
        """``cross_layer``: who writes each place, and how far latents write.

        ``written_by``: of what active latents write at a place (activation times length of the
        decoder row there, summed over tokens), the share that is written by the latents of each
        layer; ``own_share``: by those of the place's own layer.  A low one says that the transcoder
        has what happens at this place made further up: it may show one step where the host model
        takes several.  ``norm_by_distance``: of the squared decoder norms of latents that fire, the
        share that is so many layers after the one that they read.
        """
        norms_FL = self.decoder.block_norms().double()
        mass = (activity_F.to(norms_FL)[:, None] * norms_FL).unflatten(0, (self.layers, -1)).sum(1)
        shares = (mass / mass.sum(0).clamp_min(1e-30)).tolist()
        fires = (activity_F.to(norms_FL) > 0).to(norms_FL)
        by_layer = (norms_FL.pow(2) * fires[:, None]).unflatten(0, (self.layers, -1)).sum(1)
        distances = [float(by_layer.diagonal(step).sum()) for step in range(self.layers)]
        whole = max(sum(distances), 1e-30)
        names = list(places) if len(places) == self.layers else list(map(str, range(self.layers)))
        return {
            "cross_layer": {
                "own_share": {name: shares[m][m] for m, name in enumerate(names)},
                "written_by": {
                    name: [shares[layer][m] for layer in range(m + 1)]
                    for m, name in enumerate(names)
                },
                "norm_by_distance": [each / whole for each in distances],
            }
        }

    def check_widths(self, reads: Sequence[int], writes: Sequence[int]) -> None:
        for does, widths in (("reads", reads), ("writes", writes)):
            if len(widths) != self.layers or len(set(widths)) > 1:
                raise DataError(
                    f"A cross-layer transcoder of {self.layers} layers {does} as many places of one"
                    f" width; here they are {', '.join(map(str, widths))} wide."
                )

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        self._not_in_saelens()

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        del config, tensors
        cls._not_in_saelens()

    @staticmethod
    def _not_in_saelens() -> NoReturn:
        raise DataError(
            "SAELens has no cross-layer transcoder, and its loaders add decoders up over layers.",
            "The SAE's own folder holds it.",
        )
