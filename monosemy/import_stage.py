"""An SAE from files that were made elsewhere, as if it had been trained here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monosemy.errors import DataError, UnknownSite
from monosemy.formats.load import open_sae
from monosemy.formats.opened import Wanted
from monosemy.formats.saelens import save_sae
from monosemy.hosted_sae import HostedSAE
from monosemy.import_check import check_import
from monosemy.models.host import HostModel
from monosemy.models.sites import parse_site
from monosemy.progress import SILENT, Reporter
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import as_trained
from monosemy.sae_stamp import record_stamp
from monosemy.saes.base import SAE
from monosemy.specs import ImportRun, TrainRun
from monosemy.specs.hooks import Hooks
from monosemy.specs.part import SITE_PATTERN
from monosemy.specs.sets import SetPlace
from monosemy.stages import TrainedArtifact, hook_names
from monosemy.versions import versions


def import_sae(
    spec: ImportRun,
    folder: Path,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
    place: Path | None = None,
) -> TrainedArtifact:
    """Writes the SAE that ``spec`` names into ``folder``, as if it had been trained here.

    ``place`` is the folder where ``spec.source`` lies, if its name does not tell.  Raises
    ``DataError`` for what is no SAE, or does not fit the host model at its site.
    """
    (made,) = import_saes(spec, [folder], load_host, reporter, origin, place)
    return made


def import_saes(
    spec: ImportRun,
    folders: Sequence[Path],
    load_host: HostLoader,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
    place: Path | None = None,
    sets: Sequence[SetPlace | None] | None = None,
) -> list[TrainedArtifact]:
    """The same of each layer that ``spec`` names, each into the folder at its place; ``sets`` says
    what place in a set each has."""
    members = spec.members()
    made = []
    with reporter.stage("import", len(members), "SAEs") as stage:
        for number, (member, folder) in enumerate(zip(members, folders, strict=True)):
            in_set = None if sets is None else sets[number]
            extra = {**(origin or {}), **({} if in_set is None else {"set": in_set._asdict()})}
            made.append(_import(member, folder, load_host, reporter, extra, place))
            stage.advance()
    return made


def _import(
    spec: ImportRun,
    folder: Path,
    load_host: HostLoader,
    reporter: Reporter,
    origin: dict[str, Any],
    place: Path | None,
) -> TrainedArtifact:
    opened = open_sae(place or spec.source, _wanted(spec))
    spec = _placed(spec, opened.metadata)
    host = load_host(spec.model)
    trained = as_trained(spec, opened.sae.spec.model_dump(mode="json"))
    hosted = _fitting(opened.sae, trained, host)
    hooks = hosted.hooks
    check = check_import(hosted, opened.metadata, reporter)
    source = {"source": spec.source, "format": opened.format, "metadata": opened.metadata}
    provenance = {
        "spec": spec.model_dump(mode="json"),
        "imported": source | ({} if check is None else {"check": check}),
        "model": host.info(),
        "hooks": hooks.as_dict(),
        "metrics": {},
        "versions": versions(),
        **origin,
    }
    names = {"model_name": spec.model.name, **hook_names(hooks)}
    metadata = {**opened.metadata, **names}
    save_sae(opened.sae, folder, metadata, provenance, opened.density)
    provenance["weights"] = record_stamp(folder)
    return TrainedArtifact(folder, trained, {}, provenance, opened.sae.d_in, host)


def _wanted(spec: ImportRun) -> Wanted:
    """What the spec says of what files may leave open."""
    if spec.site is None:
        layer = spec.layers[0] if spec.layers else None
        return Wanted(layer, None if spec.writes is None else True)
    hooks = Hooks.at(spec.reads or spec.site, spec.writes)
    return Wanted(parse_site(spec.site)[0], None if spec.writes is None else hooks.transcodes)


def _placed(spec: ImportRun, metadata: Mapping[str, Any]) -> ImportRun:
    """``spec`` with the places that it names itself, or else its files; ``DataError`` without."""
    site, recorded = spec.site or metadata.get("hook_name"), metadata.get("hooks")
    places: dict[str, Any] = {}
    if recorded is not None and spec.site is None:
        try:
            hooks = Hooks.from_dict(recorded)
        except (ValueError, UnknownSite) as error:
            raise DataError(
                f"The files of {spec.source} say wrongly where it is hooked: {error}."
            ) from None
        site = hooks.site
        places = {"reads": [str(hook) for hook in hooks.reads] if len(hooks.reads) > 1 else None}
        if hooks.transcodes and spec.writes is None:
            places["writes"] = [str(hook) for hook in hooks.writes]
    elif spec.site is None and spec.writes is None and metadata.get("hook_name_out"):
        places["writes"] = [_site(metadata["hook_name_out"], spec, "writes")]
    update = {"site": _site(site, spec, "site"), "layers": None, **places}
    return spec.model_copy(update=update)


def _site(site: Any, spec: ImportRun, field: str) -> str:
    """A site that the files name; ``DataError`` where that is none."""
    if not isinstance(site, str) or not re.match(SITE_PATTERN, site):
        raise DataError(
            f"The files of {spec.source} do not say where it is hooked (but {site!r}).",
            f"Set {field}, for instance {field}=blocks.9.hook_resid_post.",
        )
    return site


def _fitting(sae: SAE, spec: TrainRun, host: HostModel) -> HostedSAE:
    """The SAE at the places of ``spec``; ``DataError`` where the SAE does not fit them."""
    hooks = spec.hooks
    if hooks.other_hosts:
        raise DataError(f"The SAE is of several host models: {', '.join(hooks.other_hosts)}.")
    elsewhere = hooks.transcodes or getattr(spec.sae, "target_site", None) is not None
    if sae.transcodes != elsewhere:
        raise DataError(
            "The SAE reconstructs other activations than it reads."
            if sae.transcodes
            else "The SAE reconstructs what it reads.",
            "Set writes to the place that it writes."
            if sae.transcodes
            else "Leave out writes, or name the place that is read.",
        )
    return HostedSAE(host, sae, hooks)
