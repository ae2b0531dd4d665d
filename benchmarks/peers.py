"""Training steps of other libraries, to be timed beside ours, on the device of their batch.

SAELens is the installed package.  sparsify is the package where ``eai-sparsify`` is installed (with
``--no-deps``: it pins another transformers), and otherwise, as dictionary_learning, a step by its
formula: a fused encoder with scattered weight gradients, and dense products with a top-k mask.
Tables call those "(formula)".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.gated_sae import GatedTrainingSAE, GatedTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.saes.sae import TrainStepInput, get_sae_class
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from torch import Tensor, nn

from monosemy.training.optimisers import Signum

if not torch.cuda.is_available():  # its decoder would ask triton for a card
    os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")
try:
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
except ImportError:
    SparseCoder = None

SPARSIFY = "sparsify (formula)" if SparseCoder is None else "sparsify"
"""What the tables call it."""

Step = Callable[[], None]

_SAELENS: dict[str, tuple[Any, Any]] = {
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig),
    "batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig),
    "matryoshka": (MatryoshkaBatchTopKTrainingSAE, MatryoshkaBatchTopKTrainingSAEConfig),
    "relu": (StandardTrainingSAE, StandardTrainingSAEConfig),
    "gated": (GatedTrainingSAE, GatedTrainingSAEConfig),
    "jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig),
}
"""By our names."""


def saelens(architecture: str, x_ND: Tensor, d_sae: int, k: int) -> Step:
    """As its trainer does: forward, backward, clip, Adam.  ``k`` is for those that have one."""
    kind, config = _SAELENS[architecture]
    options: dict[str, Any] = {"d_in": x_ND.shape[1], "d_sae": d_sae, "device": str(x_ND.device)}
    if "topk" in architecture or architecture == "matryoshka":
        options["k"] = k
    if architecture == "matryoshka":
        options["matryoshka_widths"] = [d_sae // 16, d_sae // 4, d_sae // 2, d_sae]
    sae: Any = kind(config(**options)).to(x_ND.device)
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-4)

    def step() -> None:
        given = TrainStepInput(x_ND, {"l0": 1.0, "l1": 1.0}, None, 1, False)
        sae.training_forward_pass(given).loss.backward()
        nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def saelens_transcoder(name: str, x_ND: Tensor, target_ND: Tensor, d_sae: int) -> Step:
    """SAELens' ``transcoder`` or ``skip_transcoder`` with mean squared error and L1: it has the
    classes, and no training of them."""
    kind, config = get_sae_class(name)
    sizes = {"d_in": x_ND.shape[1], "d_out": target_ND.shape[1], "d_sae": d_sae}
    coder: Any = kind(config(**sizes, apply_b_dec_to_input=False, device=str(x_ND.device)))
    optimiser = torch.optim.Adam(coder.parameters(), lr=3e-4)

    def step() -> None:
        made_ND, acts_NF = coder.forward_with_activations(x_ND)
        error = (made_ND - target_ND).pow(2).sum(-1).mean()
        (error + (acts_NF @ coder.W_dec.norm(dim=-1)).mean()).backward()
        nn.utils.clip_grad_norm_(coder.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def plain_transcoder(x_ND: Tensor, target_ND: Tensor, d_sae: int, k: int) -> Step:
    """A TopK transcoder in ten lines: dense products, the rest of the codes set to 0."""
    weights = {
        "W_enc": torch.randn(x_ND.shape[1], d_sae, device=x_ND.device) * 0.04,
        "b_enc": torch.zeros(d_sae, device=x_ND.device),
        "W_dec": torch.randn(d_sae, target_ND.shape[1], device=x_ND.device) * 0.04,
        "b_dec": torch.zeros(target_ND.shape[1], device=x_ND.device),
    }
    p = {name: nn.Parameter(value) for name, value in weights.items()}
    optimiser = torch.optim.Adam(p.values(), lr=3e-4)

    def step() -> None:
        pre_NF = (x_ND @ p["W_enc"] + p["b_enc"]).relu()
        top = pre_NF.topk(k, dim=-1, sorted=False)
        codes_NF = torch.zeros_like(pre_NF).scatter(1, top.indices, top.values)
        made_ND = codes_NF @ p["W_dec"] + p["b_dec"]
        F.mse_loss(made_ND, target_ND).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(p.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


class _FusedEncoder(torch.autograd.Function):
    """Linear, ReLU, top k; weight gradients scattered from the selected entries."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values, indices = F.linear(x, weight, bias).relu().topk(k, dim=1, sorted=False)
        ctx.save_for_backward(x, weight, bias, indices)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, Tensor, None]:
        x, weight, bias, indices = ctx.saved_tensors
        flat = indices.flatten()
        parts = (grads[0].unsqueeze(2) * x.unsqueeze(1)).reshape(-1, x.shape[1])
        d_weight = torch.zeros_like(weight).index_add_(0, flat, parts)
        d_bias = torch.zeros_like(bias).index_add_(0, flat, grads[0].flatten().to(bias.dtype))
        return None, d_weight, d_bias, None


def sparsify(x_ND: Tensor, d_sae: int, k: int) -> Step:
    """Decoder renormalised in each forward, gradient projected, the sign of the gradient."""
    return (
        _sparsify_by_formula(x_ND, d_sae, k) if SparseCoder is None else _sparsify(x_ND, d_sae, k)
    )


def _sparsify(x_ND: Tensor, d_sae: int, k: int) -> Step:
    """As its trainer does."""
    sae = SparseCoder(x_ND.shape[1], SparseCoderConfig(num_latents=d_sae, k=k)).to(x_ND.device)
    optimiser = SignSGD(sae.parameters(), lr=5e-3 / (d_sae / 2**14) ** 0.5)

    def step() -> None:
        sae.set_decoder_norm_to_unit_norm()
        out = sae(x_ND, dead_mask=None)
        out.fvu.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    return step


def _sparsify_by_formula(x_ND: Tensor, d_sae: int, k: int) -> Step:
    d_in = x_ND.shape[1]
    W_dec = nn.Parameter(F.normalize(x_ND.new_empty(d_sae, d_in).normal_(), dim=1))
    weight, bias = nn.Parameter(W_dec.detach().clone()), nn.Parameter(x_ND.new_zeros(d_sae))
    b_dec = nn.Parameter(x_ND.new_zeros(d_in))
    optimiser = Signum([weight, bias, W_dec, b_dec], lr=5e-3)

    def step() -> None:
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=1, keepdim=True) + 1e-7)
        values, indices = _FusedEncoder.apply(x_ND - b_dec, weight, bias, k)  # type: ignore[no-untyped-call]
        values = values.to(W_dec.dtype)  # of autocast
        out = F.embedding_bag(indices, W_dec, per_sample_weights=values, mode="sum") + b_dec
        loss = (x_ND - out).pow(2).sum() / (x_ND - x_ND.mean(0)).pow(2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            grad = W_dec.grad
            assert grad is not None
            grad -= (grad * W_dec).sum(1, keepdim=True) * W_dec
        optimiser.step()
        optimiser.zero_grad()

    return step


def dictionary_learning(x_ND: Tensor, d_sae: int, k: int) -> Step:
    """Dense products with a top-k mask; gradient projected and clipped, Adam, renormalised."""
    d_in = x_ND.shape[1]
    decoder = nn.Linear(d_sae, d_in, bias=False, device=x_ND.device)
    encoder = nn.Linear(d_in, d_sae, device=x_ND.device)
    b_dec = nn.Parameter(x_ND.new_zeros(d_in))
    parameters = [*encoder.parameters(), *decoder.parameters(), b_dec]
    optimiser = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.999))

    def step() -> None:
        pre = encoder(x_ND - b_dec).relu()
        values, indices = pre.topk(k, dim=1, sorted=False)
        codes = torch.zeros_like(pre).scatter_(1, indices, values)
        out = decoder(codes) + b_dec
        (x_ND - out).pow(2).sum(1).mean().backward()
        with torch.no_grad():
            grad, rows = decoder.weight.grad, decoder.weight / decoder.weight.norm(dim=0)
            assert grad is not None
            grad -= (grad * rows).sum(0) * rows
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            decoder.weight.div_(decoder.weight.norm(dim=0) + 1e-8)

    return step
