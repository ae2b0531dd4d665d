"""The contract of every SAE: ``encode`` to sparse codes, ``decode`` back, at any budget.

A new architecture is a file with a subclass of ``SAE``, beside this one or outside the tree, and
the class of its options, which names it (docs/plugins.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from monosemy.errors import DataError
from monosemy.saes.codes import Codes
from monosemy.saes.ragged import Entries, entry_sums
from monosemy.saes.sparse_ops import selected_values, weighted_rows
from monosemy.saes.step_group import ALONE, StepGroup
from monosemy.specs import SAESpec

_BLOCK_ELEMENTS = 16_000_000
"""Pre-activations that exist at once, outside of a step."""

Factor = float | Tensor
"""What activations are multiplied by: a number, or ``[d]`` with one for each dimension."""


class StepInfo(NamedTuple):
    """Where a training pass stands in its run."""

    step: int
    """Counts from 0."""
    total_steps: int
    dead: Tensor
    """int64: the latents that count as dead; may be empty."""


class TrainingPass(NamedTuple):
    """What one batch of n tokens gives."""

    reconstruction: Tensor
    """``[n, d_out]``, with a graph."""
    fired_F: Tensor
    """``[d_sae]``: on how many tokens of the batch each latent fired."""
    l0: Tensor
    """Mean active latents per token, a scalar without a graph."""
    terms: dict[str, Tensor]
    """What is added to the FVU of the reconstruction to make the loss: named, weighted, and
    unchanged when the data is scaled."""


class SAE(nn.Module):
    """A dictionary of ``d_sae`` unit-norm rows ``W_dec`` with an encoder and two biases.

    Shapes: ``W_enc [d_in, d_sae]``, ``b_enc [d_sae]``, ``W_dec [d_sae, d_out]``, ``b_dec [d_out]``,
    all float32.  ``d_out=None``: it reconstructs what it reads; otherwise it transcodes, into
    vectors of that length, with a linear map ``W_skip [d_out, d_in]`` beside it if the spec has
    ``skip`` (skip transcoders, Paulo et al. 2025, arXiv 2501.18823).  An architecture overrides
    ``encode`` and ``training_pass`` and says how SAELens writes it down; see ``topk.py`` for the
    pattern.  What evolves besides the parameters is a buffer: checkpoints hold the state dict.
    """

    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter

    one_scale: ClassVar[bool] = False
    """Whether all places that are read must be scaled by the same number for ``rescale`` to be
    exact."""

    def __init__(self, spec: SAESpec, d_in: int, d_out: int | None = None) -> None:
        super().__init__()
        if d_out is not None and spec.only_where_it_reads is not None:
            raise ValueError(f"an SAE that transcodes cannot be so: {spec.only_where_it_reads}")
        if d_out is None and spec.only_elsewhere:
            raise ValueError(f"only an SAE that transcodes has {', '.join(spec.only_elsewhere)}")
        self.spec = spec
        self.d_in = d_in
        self.d_out = d_in if d_out is None else d_out
        self.transcodes = d_out is not None
        """Whether it reconstructs something else than what it reads."""
        self.d_sae = spec.d_sae
        self.create_weights()
        self.product_dtype: torch.dtype | None = None
        """In which dtype ``encode`` multiplies, None for that of the weights; training uses
        bfloat16 where that is faster."""
        self.search_dtype: torch.dtype | None = None
        """In which dtype ``encode`` without gradients looks for candidates, whose values are then
        exact, None for that of the weights.  TopK alone takes it up; an index run sets it where the
        host model itself was fastest in bfloat16."""
        self.group: StepGroup = ALONE
        """The processes that take training steps together with this one."""

    def create_weights(self) -> None:
        """Makes the parameters, all 0.  Who overrides it because encoder or decoder are no whole
        matrices (``CrossLayer``) overrides what reads them: all that stands up to ``encode``, and
        ``decoded`` and the like."""
        # Laid out latent by latent: the sparse gradient of the encoder is a set of such rows.
        self.W_enc = nn.Parameter(torch.zeros(self.d_sae, self.d_in).T)
        self.b_enc = nn.Parameter(torch.zeros(self.d_sae))
        self.W_dec = nn.Parameter(torch.zeros(self.d_sae, self.d_out))
        self.b_dec = nn.Parameter(torch.zeros(self.d_out))
        if getattr(self.spec, "skip", False):
            self.W_skip = nn.Parameter(torch.zeros(self.d_out, self.d_in))

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Those that a frozen decoder keeps."""
        return [self.W_dec]

    def latent_parameters(self) -> list[tuple[nn.Parameter, int]]:
        """Parameters of which each latent has a part, and along which axis."""
        axes = (("W_enc", 1), ("b_enc", 0), ("W_dec", 0))
        return [(getattr(self, name), axis) for name, axis in axes if hasattr(self, name)]

    @property
    def device(self) -> torch.device:
        return self.b_dec.device

    def initialise(self, generator: torch.Generator) -> None:
        """Directions at random, biases at 0."""
        with torch.no_grad():
            self.initialise_directions(generator)
            self.b_enc.zero_()
            self.b_dec.zero_()
            if hasattr(self, "W_skip"):
                self.W_skip.zero_()

    @torch.no_grad()
    def initialise_directions(self, generator: torch.Generator) -> None:
        """Random unit decoder rows, encoder = decoder transposed (Gao et al. 2024, A.1); where it
        transcodes, the encoder has random columns of its own, as the spaces differ."""
        self.W_dec.copy_(torch.randn(self.d_sae, self.d_out, generator=generator))
        self.normalise_decoder()
        if not self.transcodes:
            self.W_enc.copy_(self.W_dec.T)
            return
        if getattr(self.spec, "initial_encoder", "unit") == "uniform":
            rows_FD = torch.rand(self.d_sae, self.d_in, generator=generator) * 2 - 1
            self.W_enc.copy_((rows_FD / self.d_sae**0.5).T)
            return
        rows_FD = torch.randn(self.d_sae, self.d_in, generator=generator)
        self.W_enc.copy_((rows_FD / rows_FD.norm(dim=1, keepdim=True)).T)

    @torch.no_grad()
    def take_decoder_rows(self, rows_MD: Tensor, generator: torch.Generator) -> None:
        """Puts as many of ``rows_MD`` ``[m, d_out]`` as there is room for in place of decoder rows,
        in random order and at unit length; those of length 0 are left out."""
        lengths_M = rows_MD.norm(dim=1)
        rows_MD = rows_MD[lengths_M > 0] / lengths_M[lengths_M > 0, None]
        order = torch.randperm(len(rows_MD), generator=generator)[: self.d_sae]
        self.W_dec[: len(order)] = rows_MD[order].to(self.W_dec)

    @torch.no_grad()
    def fire_at(self, x_ND: Tensor, rate: float) -> None:
        """Sets the biases so that each latent's pre-activation is positive (or above its threshold)
        on a share ``rate`` of the tokens ``x_ND``."""
        no_bias_F = x_ND.new_zeros(self.d_sae)
        latents_F = torch.arange(self.d_sae, device=x_ND.device)
        above = min(max(round(rate * len(x_ND)), 1), len(x_ND))
        step = max(1, _BLOCK_ELEMENTS // len(x_ND))
        cuts = [
            self.dense_pre_activations(x_ND, no_bias_F, some).topk(above, dim=0).values[-1]
            for some in latents_F.split(step)
        ]
        self.start_firing_above(torch.cat(cuts))

    def start_firing_above(self, product_F: Tensor) -> None:
        """Sets biases so that a latent begins to fire where ``centre(x) @ W_enc`` is so large."""
        self.b_enc.copy_(-product_F)

    def centre(self, x_ND: Tensor) -> Tensor:
        """What the encoder multiplies: the input without the decoder's bias, unless that lives at
        another place."""
        return x_ND if self.transcodes else x_ND - self.group.spread(self.b_dec)

    def encoder_input(self, x_ND: Tensor) -> Tensor:
        """The same as the products of ``selection`` and ``ragged`` take it: ``[n, d_in]``, or
        ``[n, L, d_in / L]`` where latents come in L groups of which each reads its own part."""
        return self.centre(x_ND)

    def check_widths(self, reads: Sequence[int], writes: Sequence[int]) -> None:
        """``DataError`` unless it can read and write places of these widths."""

    def encoder_rows(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(rows ``[n, d_in]``, biases ``[n]``): ``centre(x) @ row + bias`` is the pre-activation of
        these latents ``[n]`` at the first encoding.  Rows are dense over all places that are read,
        0 where a latent does not read.

        It is the code of a latent that fires, but for what a later step of the encoder changes
        (refinement steps, the picks of a pursuit).  ``DataError`` where the encoder has no linear
        first step.
        """
        weights, biases = getattr(self, "W_enc", None), getattr(self, "b_enc", None)
        if weights is None or biases is None:
            raise DataError(
                f"{type(self).__name__} has no linear encoder, so nothing adds up to its latents.",
                "An architecture says what its pre-activations are by encoder_rows.",
            )
        return weights.T[latents].detach(), biases[latents].detach()

    def decoder_rows(self, latents: Tensor | slice) -> Tensor:
        """What these latents write, ``[n, d_out]``: dense over all places that are written, 0 where
        a latent does not write.  A slice may give a view; without a graph."""
        return self.W_dec[latents].detach()

    def skip_matrix(self) -> Tensor | None:
        """The linear path beside the latents, ``[d_out, d_in]`` without a graph: ``decode`` adds
        ``x @ matrix.T``; None where there is none."""
        skip: Tensor | None = getattr(self, "W_skip", None)
        return None if skip is None else skip.detach()

    def decoder_norms(self) -> Tensor:
        """Lengths of all decoder rows, ``[d_sae]``, without a graph."""
        return self.W_dec.detach().norm(dim=1)

    def dense_pre_activations(
        self, x_ND: Tensor, b_enc: Tensor, latents: Tensor | None = None
    ) -> Tensor:
        """Pre-activations with the biases ``b_enc [d_sae]``: of ``latents`` (int64, rising), or of
        all, ``[n, f]``."""
        if latents is None:
            return torch.addmm(b_enc, self.centre(x_ND), self.W_enc)
        W_enc = self.W_enc.T.index_select(0, latents).T
        return torch.addmm(b_enc[latents], self.centre(x_ND), W_enc)

    def dense_decoded(self, acts: Tensor, latents: Tensor | None = None) -> Tensor:
        """What activations ``[n, f]`` of ``latents`` (rising; None: of all) write, ``[n, d_out]``,
        without the bias."""
        return acts @ (self.W_dec if latents is None else self.W_dec.index_select(0, latents))

    def decoded(self, entries: Entries, n: int) -> Tensor:
        """The same of the active entries of n tokens."""
        return entry_sums(entries, self.W_dec, n)

    def with_gradient(self, z_ND: Tensor, indices: Tensor, values: Tensor) -> Codes:
        """Codes whose values carry the gradient of the encoder at the input ``z``, where one is
        wanted."""
        if torch.is_grad_enabled() and (z_ND.requires_grad or self.W_enc.requires_grad):
            values = selected_values(z_ND, self.W_enc, self.b_enc, indices, values)
        return Codes(indices, values)

    def figures(self, activity_F: Tensor, places: Sequence[str]) -> dict[str, Any]:  # noqa: ARG002
        """What an evaluation says of this architecture alone, under names of its own.

        ``activity_F``: sums of each latent's activation over the tokens; ``places``: the names of
        those that are written.
        """
        return {}

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        """Codes of activations ``[n, d_in]``, each token for itself.

        ``budget`` asks for another sparsity than trained: a number of latents (int) or, where the
        architecture has one, a threshold or residual (float).  ``ValueError`` if it has no meaning.
        """
        raise NotImplementedError

    def decode(self, codes: Codes, x_ND: Tensor | None = None) -> Tensor:
        """Reconstruction ``[n, d_out]``; one with a skip matrix asks for the input as well."""
        return self.completed(self.decode_without_bias(codes), x_ND)

    def completed(self, sums_ND: Tensor, x_ND: Tensor | None) -> Tensor:
        """The reconstruction, given what the latents add up to: with the decoder's bias and, where
        there is one, the skip matrix.  ``ValueError`` where that is not given the input."""
        result = sums_ND + self.b_dec
        if not hasattr(self, "W_skip"):
            return result
        if x_ND is None:
            raise ValueError("a skip transcoder decodes with the input at hand: decode(codes, x)")
        return result + self.skipped(x_ND)

    def skipped(self, x_ND: Tensor) -> Tensor:
        """What the skip matrix makes of the input, ``[n, d_out]``; only where there is one."""
        return x_ND @ self.W_skip.T

    def decode_without_bias(self, codes: Codes) -> Tensor:
        """What the latents add up to, ``[n, d_out]``."""
        return self.group.combined(weighted_rows(codes.indices, codes.values, self.W_dec))

    def forward(self, x_ND: Tensor) -> Tensor:
        return self.decode(self.encode(x_ND), x_ND)

    def training_pass(self, x_ND: Tensor, target_ND: Tensor, info: StepInfo) -> TrainingPass:
        """One batch ``[n, d_in]`` through the SAE; ``target_ND`` is the same unless it
        transcodes."""
        raise NotImplementedError

    def begin(self, x_ND: Tensor) -> None:
        """Called once before training with some thousand training tokens, when ``b_dec`` is set:
        the place to start at a sparsity near the wanted one."""

    def after_step(self) -> None:
        """Called after every optimiser step."""
        if all(weights.requires_grad for weights in self.decoder_parameters()):
            self.normalise_decoder()

    def calibrate(self, x_ND: Tensor) -> None:
        """Called once after training with some tens of thousands of training tokens: the place to
        fit what inference needs and training does not have."""

    def saelens_export(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """``cfg.json`` keys (``architecture`` among them) and tensors as SAELens has them.

        ``DataError`` where SAELens has no class that computes the same, as here.
        """
        raise DataError(f"SAELens has no SAE that computes what {type(self).__name__} does.")

    @classmethod
    def saelens_import(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The reverse; ``DataError`` when the configuration asks for what this class does not do,
        or the tensors do not fit it.  Asked only of those whose options have a ``saelens_name``."""
        raise NotImplementedError

    @torch.no_grad()
    def rescale(self, input_factor: Factor, output_factor: Factor) -> None:
        """Makes an SAE trained on ``input_factor * x`` to ``output_factor * y`` take x, give y.

        A factor is a number or has one for each dimension, ``[d]``.  Codes shrink by ``code_scale``
        of the output's, so that decoder rows keep their length (on average, where an output has
        several factors).  Exact for encoders that are positively homogeneous in ``(x, b_dec,
        b_enc)``; what else has the codes' unit is for ``rescale_codes``.  ``ValueError`` for two
        factors of an SAE that reconstructs what it reads.
        """
        same = input_factor is output_factor or (
            not isinstance(input_factor, Tensor)
            and not isinstance(output_factor, Tensor)
            and input_factor == output_factor
        )
        if not same and not self.transcodes:
            raise ValueError("only an SAE that transcodes has two scales")
        unit = code_scale(output_factor)
        if not same or isinstance(input_factor, Tensor):
            self.rescale_directions(input_factor, output_factor, unit)
        self.rescale_codes(unit)
        self.b_dec.div_(output_factor)

    def rescale_directions(self, input_factor: Factor, output_factor: Factor, unit: float) -> None:
        """Folds the factors into encoder and decoder; codes are then ``unit`` times as small."""
        self.W_enc.mul_(_per_row(input_factor) / unit)
        if isinstance(output_factor, Tensor):
            self.W_dec.mul_(unit / output_factor)
        skip = self.skip_matrix()
        if skip is not None:
            skip.mul_(input_factor / _per_row(output_factor))

    @torch.no_grad()
    def read_affine(self, factor_D: Tensor, shift_D: Tensor) -> None:
        """Makes an SAE that transcodes and was to read ``factor * x + shift`` read x instead, to
        the same codes.  ``[d_in]`` each.  ``ValueError`` for one that reconstructs what it reads.
        """
        if not self.transcodes:
            raise ValueError("only an SAE that transcodes can be moved to another input")
        nothing_F = shift_D.new_zeros(self.d_sae)
        self.shift_pre_activations(self.dense_pre_activations(shift_D[None], nothing_F)[0])
        if hasattr(self, "W_skip"):
            self.b_dec.add_(self.skipped(shift_D[None])[0])
        self.rescale_directions(factor_D, 1.0, 1.0)

    def shift_pre_activations(self, by_F: Tensor) -> None:
        """Adds to the pre-activations before any gain of their own."""
        self.b_enc.add_(by_F)

    def rescale_codes(self, unit: float) -> None:
        """Divides by ``unit`` what is measured in activations of latents."""
        self.b_enc.div_(unit)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Sets every decoder row to unit length."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Removes from the gradient what would only change a row's length."""
        if self.W_dec.grad is not None:
            # Not the sum of a product, which would be a third matrix of this size.
            parallel_F = torch.einsum("fd,fd->f", self.W_dec.grad, self.W_dec)
            self.W_dec.grad.addcmul_(parallel_F[:, None], self.W_dec, value=-1)


def code_scale(factor: Factor) -> float:
    """What codes shrink by, given the factors of the output ``[d]``: random unit directions divided
    by these keep their length on average."""
    if not isinstance(factor, Tensor):
        return factor
    return float(factor.double().pow(-2).mean() ** -0.5)


def _per_row(factor: Factor) -> Factor:
    return factor[:, None] if isinstance(factor, Tensor) else factor


def fired_counts(codes: Codes, d_sae: int) -> Tensor:
    """On how many of the tokens each latent fired, float ``[d_sae]``, without a graph."""
    fired = codes.values.new_zeros(d_sae, requires_grad=False)
    positive = (codes.values.detach() > 0).to(fired.dtype)
    return fired.scatter_add_(0, codes.indices.reshape(-1), positive.reshape(-1))
