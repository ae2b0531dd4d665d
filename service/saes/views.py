"""Rows of SAEs and host models as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monosemy.specs.hooks import Hooks
from monosemy.specs.rest.saes import (
    FeatureCounts,
    HooksView,
    ModelBrief,
    SaeDetail,
    SaeFiles,
    SaeSummary,
    SetPlaceView,
)
from monosemy.specs.sets import SetPlace
from service.database.tables import Model, Sae


def model_brief(model: Model) -> ModelBrief:
    info = model.info
    return ModelBrief(
        id=model.id,
        name=model.name,
        architecture=info.get("architecture"),
        n_layers=info.get("n_layers"),
        d_model=info.get("d_model"),
        d_vocab=info.get("d_vocab"),
        no_generation=no_generation(info),
    )


def no_generation(info: Mapping[str, Any]) -> str | None:
    """Why a host model writes no text, by what is stored of it; None where it does, or where an
    earlier version has not looked."""
    abilities = info.get("abilities")
    reasons = abilities.get("reasons") if isinstance(abilities, Mapping) else None
    why = reasons.get("generation") if isinstance(reasons, Mapping) else None
    return why if isinstance(why, str) else None


def sae_hooks(sae: Sae) -> HooksView:
    """Rows from before there were hooks have a site, and of a transcoder its target."""
    stored = sae.config.get("hooks")
    if stored is not None:
        return HooksView.model_validate(stored)
    target = (sae.config.get("sae") or {}).get("target_site")
    hooks = Hooks.at(sae.site, target).as_dict()
    hooks["reads"][0]["width"] = sae.d_in
    if not target:
        hooks["writes"][0]["width"] = sae.d_in
    return HooksView.model_validate(hooks)


def basis_of(sae: Sae) -> str | None:
    """Which basis it is, if it needed no training."""
    basis = sae.config.get("basis")
    name = basis.get("basis") if isinstance(basis, dict) else None
    return name if isinstance(name, str) else None


def set_of(sae: Sae) -> SetPlaceView | None:
    """The set that it is of."""
    place = SetPlace.of(sae.config.get("set"))
    return None if place is None else SetPlaceView(**place._asdict())


def sae_summary(sae: Sae, model: Model, counts: FeatureCounts | None = None) -> SaeSummary:
    return SaeSummary(
        id=sae.id,
        name=sae.name,
        model=model_brief(model),
        site=sae.site,
        hooks=sae_hooks(sae),
        architecture=sae.architecture,
        basis=basis_of(sae),
        set=set_of(sae),
        d_in=sae.d_in,
        d_sae=sae.d_sae,
        metrics=sae.metrics,
        index=sae.index,
        created_at=sae.created_at,
        path=sae.path,
        features=counts,
    )


def sae_detail(sae: Sae, model: Model, counts: FeatureCounts, missing: list[SaeFiles]) -> SaeDetail:
    return SaeDetail(
        **{**dict(sae_summary(sae, model)), "features": counts},
        run_id=sae.run_id,
        missing_files=missing,
        config=sae.config,
        provenance=sae.provenance,
    )
