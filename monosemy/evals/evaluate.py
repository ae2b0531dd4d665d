"""The evaluation of an SAE: reconstruction and splice, beside the frozen-decoder baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.evals.effective_l0 import PASSES, effective_l0, sample_contributions
from monosemy.evals.latent_scaling import LatentScaling, latent_scaling
from monosemy.evals.reconstruction import ReconstructionSums, reconstruction_sums
from monosemy.evals.special_tokens import special_token_metrics
from monosemy.evals.splice import Decode, reconstruct, spliced_losses
from monosemy.hosted_sae import HostedSAE
from monosemy.models.columns import Columns, columns_of
from monosemy.progress import SILENT, Reporter
from monosemy.saes.base import SAE
from monosemy.saes.crosscoder import Crosscoder
from monosemy.saes.pruning import with_pruning
from monosemy.specs import EvaluationSpec
from monosemy.specs.latent_classes import ScaledLatent
from monosemy.specs.readings import BASELINE
from monosemy.training.stream import RowSource

ORDER_SEED = 20_240_607
"""Held-out rows are visited in this one order, so that SAEs are compared on the same text."""

_SAMPLED = 8192
"""Tokens whose contributions the effective L0 is chosen from."""

KeepLatents = Callable[[Iterable[ScaledLatent]], None]


def keep_none(_latents: Iterable[ScaledLatent]) -> None:
    """For those who want the metrics alone."""


def evaluate_sae(
    hosted: HostedSAE,
    baseline: SAE | None,
    store: TokenStore,
    source: RowSource,
    spec: EvaluationSpec,
    reporter: Reporter = SILENT,
    keep_latents: KeepLatents = keep_none,
) -> dict[str, Any]:
    """Metrics on held-out documents, stage ``evaluate`` in tokens.

    In one mapping: fvu, l0, dead_share, tokens (see ``ReconstructionSums.metrics``), ce_clean,
    ce_sae, ce_zero, ce_mean, ce_recovered_zero, ce_recovered_mean, kl, splice_tokens, spliced_share
    (see ``spliced_losses``), the fvu of each place under ``parts`` where it writes several; those
    of them that are the frozen-decoder baseline's own under ``frozen_decoder_baseline``, and with
    ``spec.prune`` those of the pruned SAE under ``pruned``.  The mean of mean ablation is that of
    the tokens reconstructed.  ``source`` holds all places of the SAE.  Raises ``DataError`` when
    no document is held out.
    Where nothing can be spliced (``HostedSAE.no_losses``) the figures of the splice are None.
    ``effective_l0`` is there if the spec asks for it (see ``effective_l0``); for a store
    of chats ``special_tokens`` holds the metrics of FAST (see ``special_token_metrics``).
    Of a cross-layer transcoder ``cross_layer``, of a crosscoder ``crosscoder`` (``SAE.figures``)
    and ``latent_scaling`` (``LatentScaling.summary``); ``keep_latents`` is given what was measured
    of each latent of a crosscoder that fires.
    """
    rows = np.random.default_rng(ORDER_SEED).permutation(store.heldout_rows())
    if not len(rows):
        raise DataError(
            "No document is held out, so there is nothing to evaluate on.",
            "Give more documents or a larger text.heldout_fraction.",
        )
    name, reason = hosted.host.name, hosted.no_losses
    if reason is not None:
        if spec.ppl_percent is not None:
            raise DataError(
                f"{name} predicts no tokens with this SAE in it ({reason}), so there is no "
                "perplexity.",
                "Leave out evaluation.ppl_percent.",
            )
        reporter.log("no losses are measured", model=name, reason=reason)
    sae = hosted.sae
    saes = {"sae": sae, **({BASELINE: baseline} if baseline is not None else {})}
    if spec.prune is not None:
        if hosted.hooks.transcodes:
            raise DataError(
                "Pruning compares a reconstruction with what the SAE reads, and this one writes "
                "elsewhere.",
                "Leave out evaluation.prune.",
            )
        saes["pruned"] = with_pruning(sae, spec.prune)
    setting = _Setting(hosted, store, source, rows, spec)
    sums, spliced = setting.reconstructed_and_spliced(saes, reporter)
    per_sae = {
        name: each.metrics() | spliced.pop(name) for name, each in zip(saes, sums, strict=True)
    }
    if store.chats:
        for name, groups in setting.special_tokens(saes, reporter).items():
            per_sae[name]["special_tokens"] = groups
    if isinstance(sae, Crosscoder) and sae.places > 1:
        scaling, places = setting.latent_scaling(sae, reporter), setting.written_places
        per_sae["sae"]["latent_scaling"] = scaling.summary(places)
        keep_latents(scaling.latents(places))
    if spec.ppl_percent is not None:
        per_sae["sae"]["effective_l0"] = setting.effective_l0(sae, sums[0].mean, reporter)
    spliced["splice_tokens"] = spliced.pop("tokens")
    result: dict[str, Any] = per_sae["sae"] | spliced
    return result | {name: each for name, each in per_sae.items() if name != "sae"}


@dataclass(frozen=True)
class _Setting:
    """What SAEs are evaluated on."""

    hosted: HostedSAE
    store: TokenStore
    source: RowSource
    rows: npt.NDArray[np.int64]
    spec: EvaluationSpec

    @property
    def columns(self) -> Columns:
        hooks = self.hosted.hooks
        return Columns.of(hooks, columns_of(self.source, hooks), self.hosted.max_norm)

    def reconstructed_and_spliced(
        self, saes: dict[str, SAE], reporter: Reporter
    ) -> tuple[list[ReconstructionSums], dict[str, Any]]:
        lengths = np.diff(self.store.row_start)[self.rows]
        there, predictions = int(lengths.sum()), int((lengths - 1).sum())
        if self.hosted.no_losses is not None:
            predictions = 0
        total = min(self.spec.reconstruction_tokens, there) + min(self.spec.tokens, predictions)
        with reporter.stage("evaluate", total, "tokens") as stage:
            sums = reconstruction_sums(
                list(saes.values()),
                self.source,
                self.rows,
                self.spec.reconstruction_tokens,
                stage.advance,
                self.columns,
                {str(hook): part for hook, part in self.hosted.hooks.written_parts.items()},
            )
            self.source.flush()
            if not sums[0].tokens:
                raise DataError(
                    "No held-out token has a usable norm: there is nothing to evaluate."
                )
            reconstructions = {name: reconstruct(each) for name, each in saes.items()}
            return sums, self.splice(reconstructions, sums[0].mean, stage.advance)

    def splice(
        self,
        reconstructions: dict[str, Decode],
        mean_D: Tensor,
        advance: Callable[[int], None],
        ablations: bool = True,
    ) -> dict[str, Any]:
        return spliced_losses(
            self.hosted,
            self.store,
            self.rows,
            reconstructions,
            mean_D,
            self.spec.tokens,
            advance,
            ablations,
        )

    def special_tokens(self, saes: dict[str, SAE], reporter: Reporter) -> dict[str, Any]:
        there = int(np.diff(self.store.row_start)[self.rows].sum())
        total = min(self.spec.reconstruction_tokens, there)
        with reporter.stage("special tokens", total, "tokens") as stage:
            return special_token_metrics(
                {name: reconstruct(each) for name, each in saes.items()},
                self.source,
                self.store,
                self.rows,
                self.spec.reconstruction_tokens,
                stage.advance,
                self.columns,
            )

    @property
    def written_places(self) -> list[str]:
        return [str(hook) for hook in self.hosted.hooks.writes]

    def latent_scaling(self, sae: Crosscoder, reporter: Reporter) -> LatentScaling:
        there = int(np.diff(self.store.row_start)[self.rows].sum())
        tokens = self.spec.reconstruction_tokens
        with reporter.stage("latent scaling", min(tokens, there), "tokens") as stage:
            return latent_scaling(sae, self.source, self.rows, tokens, self.columns, stage.advance)

    def effective_l0(self, sae: SAE, mean_D: Tensor, reporter: Reporter) -> dict[str, Any]:
        assert self.spec.ppl_percent is not None
        sample = sample_contributions(sae, self.source, self.rows, _SAMPLED, self.columns)
        with reporter.stage("effective L0", PASSES, "passes") as stage:

            def losses(decodes: Sequence[Decode]) -> list[float]:
                named = {str(number): decode for number, decode in enumerate(decodes)}
                spliced = self.splice(named, mean_D, lambda _tokens: stage.advance(0), False)
                stage.advance(len(named))
                return [spliced[name]["ce_sae"] for name in named]

            return effective_l0(sae, sample, losses, self.spec.ppl_percent)
