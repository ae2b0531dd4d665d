"""The stage that makes a basis: tokens of the text, and an SAE of given weights over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monosemy.data.store import TokenStore, prepare_text
from monosemy.errors import DataError
from monosemy.evals.reconstruction import ReconstructionSums
from monosemy.formats.saelens import save_sae
from monosemy.models.activations import ActivationSource
from monosemy.models.columns import Limits, limits, usable
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import SaeFolder, as_trained
from monosemy.sae_stamp import record_stamp
from monosemy.saes import bases
from monosemy.saes.base import SAE, fired_counts
from monosemy.specs import BasisRun, JumpReLUSpec, ModelSpec, TextSpec
from monosemy.specs.bases import DEFAULT_DIRECTIONS, DEFAULT_L0, DEFAULT_SITE
from monosemy.specs.hooks import Hooks
from monosemy.stages import TrainedArtifact, activations, folder_metadata, hook_names
from monosemy.versions import versions
from monosemy.workspace import Workspace

_ROWS, _BATCH = 64, 2048


@dataclass(frozen=True)
class _Place:
    """Where a basis is of, and what its SAE beside says of it."""

    spec: BasisRun
    """With model, text and site in place of the SAE that it names."""
    max_norm: Limits
    sae: SAE | None
    """That beside."""


def make_basis(
    spec: BasisRun,
    beside: SaeFolder | None,
    folder: Path,
    workspace: Workspace,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
    most_bytes: int | None = None,
) -> TrainedArtifact:
    """Writes the basis of ``spec`` into ``folder`` as an SAE folder that SAELens reads.

    ``beside``: the SAE that ``spec`` names; what was left out of its training is left out here, and
    without one what a training would leave out.
    ``most_bytes``: that its weights and activations may take.  Raises ``DataError`` for what cannot
    be had of this text at this site, ``UnknownSite``.
    """
    place = _placed(spec, beside)
    made = place.spec
    assert made.model is not None and made.text is not None and made.site is not None
    host = load_host(made.model)
    width = host.site_width(made.site)
    _check_room(made, place.sae, width, most_bytes)
    if beside is not None:
        beside.check(host)
    store = prepare_text(made.text, host, workspace, reporter)
    hooks = Hooks.at(made.site).with_widths(lambda hook: host.site_width(hook.site))
    # Where activations lie goes by model, text and site; the architecture means nothing here.
    stream = as_trained(made, JumpReLUSpec(d_sae=2).model_dump(mode="json"))
    source = activations(stream, [made.site], host, store, workspace)
    x_ND = _sample(made, store, source, hooks, place.max_norm, reporter)
    max_norm = place.max_norm
    if beside is None and stream.training.max_norm_ratio is not None:
        norm_N = x_ND.norm(dim=1)
        max_norm = float(norm_N.median()) * stream.training.max_norm_ratio
        x_ND = x_ND[norm_N <= max_norm]
    with reporter.stage("basis", 1, "SAEs") as stage:
        l0 = _wanted_l0(made, place.sae, x_ND)
        sae = _basis(made, place.sae, host, x_ND, l0)
        metrics, density = _metrics(sae, x_ND)
        del metrics["tokens"]  # of a training
        metrics["max_norm"] = max_norm
        made = _resolved(made, sae, l0)
        described = made.model_dump(mode="json", include={"basis", "selection", "seed"})
        provenance = {
            "spec": made.model_dump(mode="json"),
            "basis": {**described, "l0": l0, "tokens": len(x_ND), "beside": _named(beside)},
            "model": host.info(),
            "text": store.summary(),
            "hooks": hooks.as_dict(),
            "metrics": metrics,
            "versions": versions(),
            **(origin or {}),
        }
        trained = as_trained(made, sae.spec.model_dump(mode="json"))
        metadata = {**folder_metadata(trained, store), **hook_names(hooks)}
        save_sae(sae, folder, metadata, provenance, density)
        provenance["weights"] = record_stamp(folder)
        stage.advance()
    return TrainedArtifact(folder, trained, metrics, provenance, sae.d_in, host)


def _placed(spec: BasisRun, beside: SaeFolder | None) -> _Place:
    if beside is None:
        filled = {
            "model": spec.model or ModelSpec(),
            "text": spec.text or TextSpec(),
            "site": spec.site or DEFAULT_SITE,
        }
        return _Place(spec.model_copy(update=filled), None, None)
    trained = beside.spec
    if len(trained.hooks.places) > 1 or trained.hooks.other_hosts:
        raise DataError(
            f"The SAE in {beside.path} reads or writes several places: a basis has one.",
            "Name model, text and site instead of an SAE.",
        )
    filled = {"model": trained.model, "text": trained.text, "site": trained.hooks.site}
    filled["beside"] = None  # a spec says them or names an SAE
    return _Place(spec.model_copy(update=filled), beside.max_norm, beside.sae)


def _check_room(spec: BasisRun, beside: SAE | None, width: int, most_bytes: int | None) -> None:
    latents = 2 * width
    if spec.basis != "neurons":
        latents = spec.directions or (beside.d_sae if beside is not None else DEFAULT_DIRECTIONS)
        latents = 2 * min(latents, width) if spec.basis == "pca" else latents
    needed = 4 * width * (2 * latents + 2 * spec.tokens + 4 * width * (spec.basis == "pca"))
    if most_bytes is not None and needed > most_bytes:
        raise DataError(
            f"The basis would take {needed / 1e6:,.0f} MB for {latents:,} latents and "
            f"{spec.tokens:,} tokens of {width:,} dimensions; {most_bytes / 1e6:,.0f} MB may be "
            "taken here.",
            "Ask for fewer directions or tokens, or raise MONOSEMY_MAX_MEMORY_MB where there is "
            "more.",
        )


def _sample(
    spec: BasisRun,
    store: TokenStore,
    source: ActivationSource,
    hooks: Hooks,
    max_norm: Limits,
    reporter: Reporter,
) -> Tensor:
    """Activations ``[n, width]``, float32, of whole rows of training documents at random, without
    tokens that no SAE counts; at least one token."""
    rows = np.random.default_rng(abs(spec.seed)).permutation(store.training_rows())
    parts, taken = [], 0
    with reporter.stage("activations", spec.tokens, "tokens") as stage:
        for start in range(0, len(rows), _ROWS):
            x_ND, _ = source.rows(np.sort(rows[start : start + _ROWS]))
            x_ND = x_ND[usable([x_ND], limits(hooks, max_norm))][: spec.tokens - taken]
            parts.append(x_ND)
            taken += len(x_ND)
            stage.advance(len(x_ND))
            if taken >= spec.tokens:
                break
    source.flush()
    if taken == 0:
        raise DataError("The text has no training documents to take activations from.")
    return torch.cat(parts)


def _wanted_l0(spec: BasisRun, beside: SAE | None, x_ND: Tensor) -> float:
    if spec.selection == "all":
        return float(x_ND.shape[1])
    if spec.l0 is not None or beside is None:
        return spec.l0 or DEFAULT_L0
    l0 = bases.mean_l0(beside, x_ND)
    if l0 <= 0:
        raise DataError("The SAE beside fires on none of these tokens.", "Say an l0.")
    return l0


def _basis(spec: BasisRun, beside: SAE | None, host: HostModel, x_ND: Tensor, l0: float) -> SAE:
    assert spec.site is not None
    width = x_ND.shape[1]
    if spec.basis == "neurons":
        written_FD = host.output_directions(spec.site, torch.eye(width))
        weight_D = written_FD.detach().float().cpu().norm(dim=1)
        return bases.neurons(x_ND, weight_D, spec.selection, l0)
    if spec.basis == "pca":
        directions = spec.directions or min(width, len(x_ND) - 1)
        return bases.principal_components(x_ND, directions, spec.selection, l0)
    directions = spec.directions or (beside.d_sae if beside is not None else DEFAULT_DIRECTIONS)
    return bases.random_directions(x_ND, directions, spec.seed, spec.selection, l0)


def _resolved(spec: BasisRun, sae: SAE, l0: float) -> BasisRun:
    """With the figures that were taken from elsewhere, so that it makes the same basis again."""
    latents = {"neurons": None, "pca": sae.d_sae // 2, "random_directions": sae.d_sae}
    wanted = None if spec.selection == "all" else max(1.0, l0)
    if wanted is not None and spec.selection == "top_k":
        wanted = float(round(wanted))
    return spec.model_copy(update={"l0": wanted, "directions": latents[spec.basis]})


def _metrics(sae: SAE, x_ND: Tensor) -> tuple[dict[str, Any], Tensor]:
    """(FVU, L0 and dead share on the tokens that it was made from, density of each latent)."""
    sums, fired_F = ReconstructionSums(sae), torch.zeros(sae.d_sae)
    for part in x_ND.split(_BATCH):
        sums.add(part)
        fired_F += fired_counts(sae.encode(part), sae.d_sae)
    return sums.metrics(), fired_F / len(x_ND)


def _named(beside: SaeFolder | None) -> dict[str, Any] | None:
    return None if beside is None else {"folder": beside.path.name, "digest": beside.digest}
