"""What an SAE keeps: of the host model's predictions and of the activations, by document.

SAEBench's core evaluation (Karvonen et al., arXiv 2503.09532), with intervals, with mean ablation
beside zero ablation, and with an explained variance that is one.  The peers' own variants of it are
among the details, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.benchmarking.base import Benchmark, BenchmarkSae, Measured
from monosemy.benchmarking.units import Column
from monosemy.data.store import TokenStore, prepare_text, text_id_for
from monosemy.errors import DataError
from monosemy.evals.evaluate import ORDER_SEED
from monosemy.evals.splice import (
    LOGITS_AT_ONCE,
    ROWS_AT_ONCE,
    ablating,
    counted_batches,
    reconstruct,
    spliced_logits,
)
from monosemy.figures import plural
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.nearest import nearest_rows
from monosemy.saes.base import SAE
from monosemy.specs.benchmarks import CoreBenchmark
from monosemy.specs.rest.benchmarks import BenchmarkUnit, Better
from monosemy.workspace import fingerprint

_OFTEN = (0.01, 0.1)
"""Shares of tokens above which a latent counts as firing often."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Core(Benchmark[CoreBenchmark]):
    """See the module."""

    unit = "document"

    @property
    def headline(self) -> str:
        return "explained_variance"

    def data_digest(self) -> str:
        return fingerprint(
            [text_id_for(self.spec.text, self.bench.host), self.spec.tokens, ORDER_SEED]
        )

    def check(self, sae: BenchmarkSae) -> None:
        if sae.hosted.hooks.other_hosts:
            raise DataError(
                "It is hooked in several host models, and this takes one host model.",
                "Evaluate it with monosemy evaluate.",
            )
        trained, asked = sae.folder.spec.text, self.spec.text
        alike = trained.source == asked.source and trained.split == asked.split
        if alike and trained.heldout_fraction < asked.heldout_fraction:
            raise DataError(
                f"It was trained on some of these documents: it held out "
                f"{trained.heldout_fraction:g} of '{trained.source}', and this asks for "
                f"{asked.heldout_fraction:g}.",
                f"Set text.heldout_fraction to {trained.heldout_fraction:g} or less.",
            )

    def prepare(self) -> None:
        bench = self.bench
        self.store = prepare_text(self.spec.text, bench.host, bench.workspace, bench.reporter)
        self.documents, self.rows = _chosen(self.store, self.spec.tokens)
        self.ablated: dict[str, _Losses] = {}
        """By which tokens are left as they are: of the ablated host, which no SAE changes."""

    def measure(self, sae: BenchmarkSae) -> Measured:
        saes = {"sae": sae.sae}
        if sae.baseline is not None:
            saes["frozen"] = sae.baseline
        hosted = sae.hosted
        passes = 1 if hosted.no_losses is not None else 2
        losses = None
        total = passes * len(self.rows)
        with self.bench.reporter.stage(f"core: {sae.name}", total, "rows") as stage:
            targets = _Targets(len(self.documents), sae.sae.d_out)
            sums = {name: _Sums(each, targets) for name, each in saes.items()}
            for x_ND, target_ND, at_N in self._activations(hosted, stage.advance):
                targets.add(target_ND, at_N)
                for each in sums.values():
                    each.add(x_ND, target_ND, at_N)
            if hosted.no_losses is None:
                losses = self._losses(hosted, saes, targets.mean, stage.advance)
        names = self.store.document_names
        units = [BenchmarkUnit(name=names[at], family=names[at]) for at in self.documents]
        columns = [column for name in saes for column in sums[name].columns(name)]
        notes = ["Units are documents; tokens of one document are resampled together."]
        if losses is None:
            notes.append(f"No losses: {hosted.no_losses}.")
        else:
            columns += [column for name in saes for column in losses.columns(name)]
        details: dict[str, Any] = {name: each.details() for name, each in sums.items()}
        if losses is not None:
            details["losses"] = losses.means()
        return Measured(units, columns, notes, details)

    def _unit_of(self, rows_B: Ints) -> Ints:
        """The place of each row's document among the units."""
        return np.searchsorted(self.documents, self.store.row_document[rows_B])

    def _activations(
        self, hosted: HostedSAE, advance: Callable[[int], None]
    ) -> Iterator[tuple[Tensor, Tensor, Ints]]:
        """(what is read ``[n, d_in]``, its target ``[n, d_out]``, units ``[n]``) of the tokens that
        count, a batch at a time."""
        hooks, host = hosted.hooks, hosted.host
        sites = list(dict.fromkeys(hook.site for hook in (*hooks.reads, *hooks.writes)))
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            rows = self.rows[start : start + ROWS_AT_ONCE]
            batch = self.store.batch(rows)
            ids, mask = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS)
            got = host.capture(ids, mask, sites)
            read = [got[hook.site] for hook in hooks.reads]
            kept = hosted.usable(read) & torch.from_numpy(batch.real_BS).to(host.device)
            x_ND = hosted.joined(read)[kept].float()
            written = [got[hook.site] for hook in hooks.writes]
            target_ND = torch.cat(written, dim=-1)[kept].float() if hooks.transcodes else x_ND
            at_BS = np.broadcast_to(self._unit_of(rows)[:, None], batch.ids_BS.shape)
            yield x_ND, target_ND, at_BS[kept.cpu().numpy()]
            advance(len(rows))

    @torch.no_grad()
    def _losses(
        self,
        hosted: HostedSAE,
        saes: Mapping[str, SAE],
        mean_D: Tensor,
        advance: Callable[[int], None],
    ) -> _Losses:
        sums, ablated = _Losses(len(self.documents)), self.ablated.get(str(hosted.max_norm))
        decodes = {name: reconstruct(each) for name, each in saes.items()}
        if ablated is None:
            decodes = {**ablating(mean_D), **decodes}
        else:
            sums.take(ablated, "zero", "mean")
        for batch in counted_batches(self.store, self.rows, self.store.n_tokens):
            at_M = self._unit_of(batch.rows_B)[batch.row_M.numpy()]
            clean = batch.logits(hosted.host)
            sums.add("clean", clean, clean, batch.target_M, at_M)
            for name, logits in spliced_logits(hosted, batch, decodes):
                sums.add(name, logits, clean, batch.target_M, at_M)
            advance(len(batch.rows_B))
        self.ablated.setdefault(str(hosted.max_norm), sums)
        return sums


def _chosen(store: TokenStore, tokens: int) -> tuple[Ints, Ints]:
    """(documents, ascending, and their rows); ``DataError`` where fewer than two are held out."""
    rows = store.heldout_rows()
    documents, at_R = np.unique(store.row_document[rows], return_inverse=True)
    length_D = np.bincount(at_R, np.diff(store.row_start)[rows], len(documents))
    order = np.random.default_rng(ORDER_SEED).permutation(len(documents))
    before = np.cumsum(length_D[order]) - length_D[order]
    chosen = np.sort(documents[order[before < tokens]]).astype(np.int64)
    if len(chosen) < 2:
        raise DataError(
            f"{plural(len(chosen), 'held-out document')} with {tokens:,} tokens; figures with"
            " intervals need two documents.",
            "Give more documents, a larger text.heldout_fraction, or more tokens.",
        )
    return chosen, rows[np.isin(documents[at_R], chosen)]


def _column(
    metric: str, subject: str, parts_U: Floats, weights_U: Floats, better: Better = "higher"
) -> Column:
    """Seeds change nothing here."""
    return Column(metric, subject, parts_U[None], weights_U[None], better)


class _Targets:
    """What SAEs are to reconstruct: sums by unit ``[U]``, float64, and the activations."""

    def __init__(self, units: int, width: int) -> None:
        self.tokens_U, self.norm_U = np.zeros(units), np.zeros(units)
        self.total_UD = np.zeros((units, width))
        self.seen: list[Tensor] = []

    def add(self, target_ND: Tensor, at_N: Ints) -> None:
        target = target_ND.double().cpu()
        np.add.at(self.tokens_U, at_N, 1.0)
        np.add.at(self.norm_U, at_N, target.pow(2).sum(1).numpy())
        np.add.at(self.total_UD, at_N, target.numpy())
        self.seen.append(target_ND.float().cpu())

    @property
    def tokens(self) -> int:
        return int(self.tokens_U.sum())

    @property
    def mean(self) -> Tensor:
        """``[d_out]``, float32."""
        return torch.from_numpy(self.total_UD.sum(0) / max(self.tokens, 1)).float()

    @property
    def around_U(self) -> Floats:
        """Squared distances from the mean of all tokens."""
        mean_D = self.total_UD.sum(0) / max(self.tokens, 1)
        return self.norm_U - 2 * self.total_UD @ mean_D + self.tokens_U * (mean_D @ mean_D)


class _Sums:
    """What is summed of one SAE over tokens, by unit ``[U]``, float64."""

    def __init__(self, sae: SAE, targets: _Targets) -> None:
        self.sae, self.targets = sae, targets
        of_vectors = ("error", "norm_in", "norm_out", "norm_ratio", "cosine", "made", "along")
        names = (*of_vectors, "l0", "l1")
        self.sums = {name: np.zeros(len(targets.tokens_U)) for name in names}
        self.fired = torch.zeros(sae.d_sae, dtype=torch.float64)
        self.mass = torch.zeros(sae.d_sae, dtype=torch.float64)
        self.errors: list[Tensor] = []

    @torch.no_grad()
    def add(self, x_ND: Tensor, target_ND: Tensor, at_N: Ints) -> None:
        x_ND = x_ND.to(self.sae.device)
        codes = self.sae.encode(x_ND)
        made, target = self.sae.decode(codes, x_ND).double().cpu(), target_ND.double().cpu()
        error_N = (target - made).pow(2).sum(1)
        norm_N, made_N, along_N = target.norm(dim=1), made.norm(dim=1), (target * made).sum(1)
        tiny = torch.finfo(torch.float64).tiny
        values, indices = codes.values.double().cpu(), codes.indices.cpu()
        by_token = {
            "error": error_N,
            "norm_in": norm_N,
            "norm_out": made_N,
            "norm_ratio": made_N / norm_N.clamp_min(tiny),
            "cosine": along_N / (norm_N * made_N).clamp_min(tiny),
            "made": made_N.pow(2),
            "along": along_N,
            "l0": codes.l0().double().cpu(),
            "l1": values.sum(-1),
        }
        for name, value_N in by_token.items():
            np.add.at(self.sums[name], at_N, value_N.numpy())
        self.fired.index_add_(0, indices.flatten(), (values > 0).double().flatten())
        self.mass.index_add_(0, indices.flatten(), values.flatten())
        self.errors.append(error_N)

    def columns(self, subject: str) -> list[Column]:
        sums, tokens, around = self.sums, self.targets.tokens_U, self.targets.around_U
        made, along = sums["made"], sums["along"]
        return [
            _column("explained_variance", subject, around - sums["error"], around),
            _column("cosine_similarity", subject, sums["cosine"], tokens),
            _column("norm_ratio", subject, sums["norm_ratio"], tokens, "neither"),
            _column("relative_reconstruction_bias", subject, made, along, "neither"),
            _column("l0", subject, sums["l0"], tokens, "neither"),
        ]

    def details(self) -> dict[str, Any]:
        """Figures of all tokens together, the peers' variants of explained variance among them."""
        tokens = max(self.targets.tokens, 1)
        density, firing = self.fired / tokens, self.mass / self.mass.sum().clamp_min(1e-30)
        shares = {}
        for least in _OFTEN:
            often = density > least
            shares[f"latents_above_{least:g}"] = float(often.double().mean())
            shares[f"firing_mass_above_{least:g}"] = float(firing[often].sum())
        return {
            "tokens": self.targets.tokens,
            "dead_share": float((self.fired == 0).double().mean()),
            "l1": float(self.sums["l1"].sum()) / tokens,
            "mse": float(self.sums["error"].sum()) / tokens / self.sae.d_out,
            "norm_in": float(self.sums["norm_in"].sum()) / tokens,
            "norm_out": float(self.sums["norm_out"].sum()) / tokens,
            **shares,
            **decoder_redundancy(self.sae),
            **peer_variances(torch.cat(self.errors), torch.cat(self.targets.seen)),
        }


def peer_variances(error_N: Tensor, target_ND: Tensor) -> dict[str, float]:
    """Explained variance as SAEBench has it, of squared errors ``[n]`` and activations ``[n, d]``.

    ``explained_variance_saebench_0_6_0`` takes (the mean over dimensions of E[x_d^2])^2 from E|x|^2
    where |E x|^2 belongs; ``explained_variance_legacy`` is the mean over tokens of
    1 - |x - x_hat|^2 / |x - E x|^2 (here with the mean over all tokens, there over a batch).
    """
    target_ND, error_N = target_ND.double(), error_N.double()
    around_N = (target_ND - target_ND.mean(0)).pow(2).sum(1)
    total = target_ND.pow(2).sum(1).mean() - target_ND.pow(2).mean(0).mean() ** 2
    return {
        "explained_variance_saebench_0_6_0": float(1 - error_N.mean() / total),
        "explained_variance_legacy": float((1 - error_N / around_N).mean()),
    }


@torch.no_grad()
def decoder_redundancy(sae: SAE) -> dict[str, float]:
    """How alike decoder rows are: the mean over latents of the largest cosine to another one, and
    the share of latents with one above .9."""
    rows_FD = F.normalize(sae.decoder_rows(torch.arange(sae.d_sae)).float().cpu(), dim=1)
    _, nearest_F1 = nearest_rows(rows_FD.numpy(), 1)
    encoder = getattr(sae, "W_enc", None)
    nearest_encoder = nearest_F1
    if isinstance(encoder, Tensor):  # else the encoder is the decoder's
        columns_FD = F.normalize(encoder.detach().float().cpu().T, dim=1)
        _, nearest_encoder = nearest_rows(columns_FD.numpy(), 1)
    return {
        "nearest_cosine": float(nearest_F1.mean()),
        "nearest_encoder_cosine": float(nearest_encoder.mean()),
        "duplicated_share": float((nearest_F1 > 0.9).mean()),
    }


@dataclass
class _Losses:
    """Nats by unit ``[U]``, per variant."""

    units: int
    loss: dict[str, Floats] = field(default_factory=dict)
    divergence: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens_U = np.zeros(self.units)

    def add(
        self, name: str, logits_MV: Tensor, clean_MV: Tensor, target_M: Tensor, at_M: Ints
    ) -> None:
        losses, divergences = [], []
        blocks = (part.split(LOGITS_AT_ONCE) for part in (logits_MV, clean_MV, target_M))
        for logits, clean, target in zip(*blocks, strict=True):
            edited = F.log_softmax(logits.float(), dim=-1)
            losses.append(F.nll_loss(edited, target.to(edited.device), reduction="none").cpu())
            reference = F.log_softmax(clean.float(), dim=-1)
            divergence = F.kl_div(edited, reference, reduction="none", log_target=True)
            divergences.append(divergence.sum(-1).cpu())
        for sums, parts in ((self.loss, losses), (self.divergence, divergences)):
            own = sums.setdefault(name, np.zeros(self.units))
            np.add.at(own, at_M, torch.cat(parts).double().numpy())
        if name == "clean":
            np.add.at(self.tokens_U, at_M, 1.0)

    def take(self, other: _Losses, *names: str) -> None:
        """These variants of the same tokens, as ``other`` has them."""
        for name in names:
            self.loss[name], self.divergence[name] = other.loss[name], other.divergence[name]

    def means(self) -> dict[str, float | int]:
        """Nats for each token, of all together."""
        tokens = int(self.tokens_U.sum())
        made: dict[str, float | int] = {"tokens": tokens}
        for name, loss_U in self.loss.items():
            made[f"ce_{name}"] = float(loss_U.sum()) / max(tokens, 1)
            made[f"kl_{name}"] = float(self.divergence[name].sum()) / max(tokens, 1)
        return made

    def columns(self, subject: str) -> list[Column]:
        loss, divergence = self.loss, self.divergence
        columns = []
        for ablation in ("zero", "mean"):
            harm = loss[ablation] - loss["clean"]
            kept = loss[ablation] - loss[subject]
            if harm.sum() <= 0:  # nothing is there to be recovered: no unit has the metric
                kept = np.full_like(kept, np.nan)
            columns.append(_column(f"ce_score_{ablation}", subject, kept, harm))
            kl = divergence[ablation]
            columns.append(_column(f"kl_score_{ablation}", subject, kl - divergence[subject], kl))
        increase = loss[subject] - loss["clean"]
        return [
            *columns,
            _column("ce_increase", subject, increase, self.tokens_U, "lower"),
            _column("kl", subject, divergence[subject], self.tokens_U, "lower"),
        ]
