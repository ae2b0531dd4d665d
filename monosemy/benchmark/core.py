"""What an SAE keeps: of the host model's predictions and of the activations, by document.

SAEBench's core evaluation (Karvonen et al., arXiv 2503.09532), with intervals, with mean ablation
beside zero ablation, and with an explained variance that is one.  The peers' own variants of it are
among the details, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from monosemy.benchmark.base import Benchmark, BenchmarkSae, Measured
from monosemy.benchmark.units import Column
from monosemy.data.store import Batch, TokenStore, prepare_text, text_id_for
from monosemy.errors import DataError
from monosemy.evals.splice import ROWS_AT_ONCE, always, reconstruct, spliced
from monosemy.saes.base import SAE
from monosemy.specs.benchmarks import CoreBenchmark
from monosemy.specs.rest.benchmarks import BenchmarkUnit, Better
from monosemy.workspace import fingerprint

_ORDER = 20_240_607
"""Seed of the order of documents: one for all SAEs."""
_LOGITS_AT_ONCE = 256
_OFTEN = (0.01, 0.1)
"""Shares of tokens above which a latent counts as firing often."""

Floats = npt.NDArray[np.float64]


class Core(Benchmark[CoreBenchmark]):
    """See the module."""

    unit = "document"

    @property
    def headline(self) -> str:
        return "explained_variance"

    def data_digest(self) -> str:
        return fingerprint([text_id_for(self.spec.text, self.bench.host), self.spec.tokens, _ORDER])

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

    def measure(self, sae: BenchmarkSae) -> Measured:
        saes = {"sae": sae.sae}
        if sae.baseline is not None:
            saes["frozen"] = sae.baseline
        reading = _Reading(self, sae)
        total = len(saes) * len(self.rows) * (2 if sae.hosted.no_losses is None else 1)
        with self.bench.reporter.stage(f"core: {sae.name}", total, "rows") as stage:
            sums = {name: _Sums(each, len(self.documents)) for name, each in saes.items()}
            for read in reading.batches():
                for each in sums.values():
                    each.add(*read)
                stage.advance(len(saes) * ROWS_AT_ONCE)
            losses = None
            if sae.hosted.no_losses is None:
                mean_D = sums["sae"].mean
                losses = reading.losses(saes, mean_D, stage.advance)
        names = self.store.document_names
        units = [BenchmarkUnit(name=names[at], family=names[at]) for at in self.documents]
        columns = [column for name in saes for column in sums[name].columns(name)]
        notes = ["Units are documents; tokens of one document are resampled together."]
        if losses is None:
            notes.append(f"No losses: {sae.hosted.no_losses}.")
        else:
            columns += [column for name in saes for column in losses.columns(name)]
        return Measured(
            units, columns, notes, {name: each.details() for name, each in sums.items()}
        )


def _chosen(store: TokenStore, tokens: int) -> tuple[list[int], npt.NDArray[np.int64]]:
    """(documents, their rows); ``DataError`` where fewer than two are held out."""
    rows = store.heldout_rows()
    document_R = store.row_document[rows]
    length_R = np.diff(store.row_start)[rows]
    chosen: list[int] = []
    taken = 0
    for document in np.random.default_rng(_ORDER).permutation(np.unique(document_R)).tolist():
        if taken >= tokens:
            break
        chosen.append(document)
        taken += int(length_R[document_R == document].sum())
    if len(chosen) < 2:
        raise DataError(
            f"{len(chosen)} documents are held out; figures with intervals need two.",
            "Give more documents, a larger text.heldout_fraction, or more tokens.",
        )
    chosen.sort()
    return chosen, rows[np.isin(document_R, chosen)]


class _Reading:
    """The documents as one SAE meets them."""

    def __init__(self, core: Core, sae: BenchmarkSae) -> None:
        self.store, self.rows, self.hosted = core.store, core.rows, sae.hosted
        self.document_of = {document: at for at, document in enumerate(core.documents)}
        self.host = sae.hosted.host

    def batches(self) -> Any:
        """(what is read ``[n, d_in]``, its target ``[n, d_out]``, documents ``[n]``) of tokens
        that count."""
        hooks = self.hosted.hooks
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            batch, ids, mask, at_BS = self._rows(start)
            sites = list(dict.fromkeys(hook.site for hook in (*hooks.reads, *hooks.writes)))
            got = self.host.capture(ids, mask, sites)
            read = [got[hook.site] for hook in hooks.reads]
            real = torch.from_numpy(batch.real_BS).to(self.host.device)
            kept = self.hosted.usable(read) & real
            x_ND = self.hosted.joined(read)[kept].float()
            written = [got[hook.site] for hook in hooks.writes]
            target_ND = torch.cat(written, dim=-1)[kept].float() if hooks.transcodes else x_ND
            yield x_ND, target_ND, at_BS[kept.cpu().numpy()]

    def _rows(self, start: int) -> tuple[Batch, Tensor, Tensor, npt.NDArray[np.int64]]:
        rows = self.rows[start : start + ROWS_AT_ONCE]
        batch = self.store.batch(rows)
        own = [self.document_of[int(each)] for each in self.store.row_document[rows]]
        at_BS = np.repeat(np.array(own)[:, None], batch.ids_BS.shape[1], 1)
        ids, mask = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS)
        return batch, ids, mask, at_BS

    @torch.no_grad()
    def losses(
        self, saes: Mapping[str, SAE], mean_D: Tensor, advance: Callable[[int], None]
    ) -> _Losses:
        """As ``monosemy.evals.splice.spliced_losses`` has them, by document."""
        sums = _Losses(len(self.document_of))
        hooks = self.hosted.hooks
        several = len(hooks.reads) > 1 or len(hooks.writes) > 1
        decodes = {"zero": always(torch.zeros_like(mean_D)), "mean": always(mean_D)}
        decodes |= {name: reconstruct(each) for name, each in saes.items()}
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            batch, ids, mask, at_BS = self._rows(start)
            real = torch.from_numpy(batch.real_BS)
            counted = real[:, 1:] & real[:, :-1]
            target, at_N = ids[:, 1:][counted], at_BS[:, 1:][counted.numpy()]
            on_host = counted.to(self.host.device)
            clean = self.host.logits(ids, mask)[:, :-1][on_host]
            sums.add("clean", clean, clean, target, at_N)
            read = self.hosted.read(ids, mask) if several else None
            for name, decode in decodes.items():
                change = spliced(self.hosted, decode, read).edits(real)
                logits = self.host.logits(ids, mask, change)[:, :-1][on_host]
                sums.add(name, logits, clean, target, at_N)
            advance(len(saes) * len(batch.ids_BS))
        return sums


class _Sums:
    """What is summed over tokens, by document ``[U]``, float64."""

    def __init__(self, sae: SAE, documents: int) -> None:
        self.sae = sae
        names = ("tokens", "error", "norm", "norm_ratio", "cosine", "made", "along", "l0", "l1")
        self.sums: dict[str, Floats] = {name: np.zeros(documents) for name in names}
        self.total_UD = np.zeros((documents, sae.d_out))
        self.square_D = torch.zeros(sae.d_out, dtype=torch.float64)
        self.fired = torch.zeros(sae.d_sae, dtype=torch.float64)
        self.mass = torch.zeros(sae.d_sae, dtype=torch.float64)
        self._for_legacy: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def add(self, x_ND: Tensor, target_ND: Tensor, at_N: npt.NDArray[np.int64]) -> None:
        x_ND = x_ND.to(self.sae.device)
        codes = self.sae.encode(x_ND)
        made = self.sae.decode(codes, x_ND).double().cpu()
        target = target_ND.double().cpu()
        error_N = (target - made).pow(2).sum(1)
        norm_N, made_N = target.norm(dim=1), made.norm(dim=1)
        along_N = (target * made).sum(1)
        tiny = torch.finfo(torch.float64).tiny
        values, indices = codes.values.double().cpu(), codes.indices.cpu()
        for name, value_N in (
            ("tokens", torch.ones_like(error_N)),
            ("error", error_N),
            ("norm", norm_N.pow(2)),
            ("norm_ratio", made_N / norm_N.clamp_min(tiny)),
            ("cosine", along_N / (norm_N * made_N).clamp_min(tiny)),
            ("made", made_N.pow(2)),
            ("along", along_N),
            ("l0", codes.l0().double().cpu()),
            ("l1", values.sum(-1)),
        ):
            np.add.at(self.sums[name], at_N, value_N.numpy())
        np.add.at(self.total_UD, at_N, target.numpy())
        self.square_D += target.pow(2).sum(0)
        self.fired.index_add_(0, indices.flatten(), (values > 0).double().flatten())
        self.mass.index_add_(0, indices.flatten(), values.flatten())
        self._for_legacy.append((error_N, target_ND.float().cpu()))

    @property
    def tokens(self) -> float:
        return float(self.sums["tokens"].sum())

    @property
    def mean(self) -> Tensor:
        """Of what is reconstructed, ``[d_out]``, float32."""
        return torch.from_numpy(self.total_UD.sum(0) / max(self.tokens, 1)).float()

    def columns(self, subject: str) -> list[Column]:
        sums, mean_D = self.sums, self.total_UD.sum(0) / max(self.tokens, 1)
        around_U = sums["norm"] - 2 * self.total_UD @ mean_D + sums["tokens"] * (mean_D @ mean_D)
        tokens = sums["tokens"]

        def column(name: str, parts: Floats, weights: Floats, better: Better = "higher") -> Column:
            return Column(name, subject, parts[None], weights[None], better)

        return [
            column("explained_variance", around_U - sums["error"], around_U),
            column("cosine_similarity", sums["cosine"], tokens),
            column("norm_ratio", sums["norm_ratio"], tokens, "neither"),
            column("relative_reconstruction_bias", sums["made"], sums["along"], "neither"),
            column("l0", sums["l0"], tokens, "neither"),
        ]

    def details(self) -> dict[str, Any]:
        """Figures of all tokens together, the peers' variants of explained variance among them."""
        tokens = max(self.tokens, 1)
        density, firing = self.fired / tokens, self.mass / self.mass.sum().clamp_min(1e-30)
        shares = {}
        for least in _OFTEN:
            often = density > least
            shares[f"latents_above_{least:g}"] = float(often.double().mean())
            shares[f"firing_mass_above_{least:g}"] = float(firing[often].sum())
        return {
            "tokens": int(self.tokens),
            "dead_share": float((self.fired == 0).double().mean()),
            "l1": float(self.sums["l1"].sum()) / tokens,
            "mse": float(self.sums["error"].sum()) / tokens / self.sae.d_out,
            **shares,
            **decoder_redundancy(self.sae),
            **peer_variances(
                torch.cat([error for error, _ in self._for_legacy]),
                torch.cat([target for _, target in self._for_legacy]),
            ),
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
def decoder_redundancy(sae: SAE, at_once: int = 1024) -> dict[str, float]:
    """How alike decoder rows are: the mean over latents of the largest cosine to another one, and
    the share of latents with one above .9."""
    rows_FD = F.normalize(sae.decoder_rows(torch.arange(sae.d_sae)).float().cpu(), dim=1)
    nearest = []
    for start in range(0, len(rows_FD), at_once):
        cosine = rows_FD[start : start + at_once] @ rows_FD.T
        own = torch.arange(len(cosine))
        cosine[own, start + own] = -1
        nearest.append(cosine.max(1).values)
    nearest_F = torch.cat(nearest)
    return {
        "nearest_cosine": float(nearest_F.mean()),
        "duplicated_share": float((nearest_F > 0.9).double().mean()),
    }


@dataclass
class _Losses:
    """Nats by document ``[U]``, per variant."""

    documents: int
    tokens_U: Floats = field(init=False)
    loss: dict[str, Floats] = field(default_factory=dict)
    divergence: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens_U = np.zeros(self.documents)

    def add(
        self,
        name: str,
        logits_MV: Tensor,
        clean_MV: Tensor,
        target_M: Tensor,
        at_M: npt.NDArray[np.int64],
    ) -> None:
        losses, divergences = [], []
        blocks = (part.split(_LOGITS_AT_ONCE) for part in (logits_MV, clean_MV, target_M))
        for logits, clean, target in zip(*blocks, strict=True):
            edited = F.log_softmax(logits.float(), dim=-1)
            losses.append(F.nll_loss(edited, target.to(edited.device), reduction="none").cpu())
            reference = F.log_softmax(clean.float(), dim=-1)
            divergence = F.kl_div(edited, reference, reduction="none", log_target=True)
            divergences.append(divergence.sum(-1).cpu())
        for sums, parts in ((self.loss, losses), (self.divergence, divergences)):
            own = sums.setdefault(name, np.zeros(self.documents))
            if parts:
                np.add.at(own, at_M, torch.cat(parts).double().numpy())
        if name == "clean":
            np.add.at(self.tokens_U, at_M, 1.0)

    def columns(self, subject: str) -> Sequence[Column]:
        loss, divergence, own = self.loss, self.divergence, self.loss[subject]

        def column(name: str, parts: Floats, weights: Floats, better: Better = "higher") -> Column:
            return Column(name, subject, parts[None], weights[None], better)

        harms = {name: loss[name] - loss["clean"] for name in ("zero", "mean")}
        for name, harm in harms.items():
            if harm.sum() <= 0:  # nothing is there to be recovered: no unit has the metric
                harms[name] = np.full_like(harm, np.nan)
        return [
            column("ce_score_zero", loss["zero"] - own + 0 * harms["zero"], harms["zero"]),
            column("ce_score_mean", loss["mean"] - own + 0 * harms["mean"], harms["mean"]),
            column("kl_score_zero", divergence["zero"] - divergence[subject], divergence["zero"]),
            column("kl_score_mean", divergence["mean"] - divergence[subject], divergence["mean"]),
            column("ce_increase", own - loss["clean"], self.tokens_U, "lower"),
            column("kl", divergence[subject], self.tokens_U, "lower"),
        ]
