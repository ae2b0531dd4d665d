"""The torch stages of the main job, as the workers and the notebook both run them.

Each takes a spec, a workspace and a reporter, leaves its artifact in the workspace and returns what
is worth keeping in a database.  Nothing here knows of one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monosemy.data.store import TokenStore, prepare_text
from monosemy.errors import DataError
from monosemy.evals.evaluate import evaluate_sae
from monosemy.formats.load import open_sae
from monosemy.formats.saelens import save_sae
from monosemy.index.builder import build_index
from monosemy.index.reader import IndexReader
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.sae_folder import BASELINE, SaeFolder, as_trained
from monosemy.sae_stamp import record_stamp
from monosemy.saes.base import SAE
from monosemy.specs import (
    EvaluateRun,
    ImportRun,
    IndexRun,
    ModelSpec,
    TrainingSpec,
    TrainRun,
    TranscoderSpec,
)
from monosemy.specs.part import SITE_PATTERN
from monosemy.training.job import Job
from monosemy.training.launch import train_in_processes
from monosemy.training.page import training_page
from monosemy.training.train import TrainedSAE, train_saes
from monosemy.versions import versions
from monosemy.workspace import Workspace

HostLoader = Callable[[ModelSpec], HostModel]

CURVES = "training.html"
"""The page in an SAE folder that shows how its training went."""


@dataclass(frozen=True)
class TrainedArtifact:
    """What ``train`` leaves behind; ``folder`` is an SAE folder that SAELens reads."""

    folder: Path
    spec: TrainRun
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    d_in: int
    host: HostModel


def train(
    spec: TrainRun,
    folder: Path,
    checkpoint_dir: Path,
    workspace: Workspace,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
) -> TrainedArtifact:
    """Trains the SAE of ``spec`` into ``folder``; resumes from ``checkpoint_dir`` if it can.

    ``origin`` (run id and the like) goes into the provenance as it is.
    """
    (trained,) = train_many(
        [spec], [folder], spec.training, checkpoint_dir, workspace, load_host, reporter, origin
    )
    return trained


def train_many(
    specs: Sequence[TrainRun],
    folders: Sequence[Path],
    stream: TrainingSpec,
    checkpoint_dir: Path,
    workspace: Workspace,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
    origin: dict[str, Any] | None = None,
) -> list[TrainedArtifact]:
    """``train`` for several SAEs of one host and text, each into the folder at its place.

    They see the same batches; ``stream`` says how long, how large and in which order.
    """
    host = load_host(specs[0].model)
    store, source = open_stream(specs, host, workspace, reporter)
    if stream.devices > 1:
        source.close()  # the processes open it for themselves
        dtype = str(host.dtype).removeprefix("torch.")
        model = specs[0].model.model_copy(update={"dtype": dtype})
        job = Job(checkpoint_dir, list(specs), stream, model, workspace, store.text_id)
        trained = train_in_processes(job, reporter)
    else:
        trained = train_saes(
            specs, store, source, checkpoint_dir, reporter, columns=source.columns, stream=stream
        )
    artifacts = []
    for spec, folder, result in zip(specs, folders, trained, strict=True):
        provenance = {
            "spec": spec.model_dump(mode="json"),
            "model": host.info(),
            "text": store.summary(),
            "metrics": result.metrics,
            "versions": versions(),
            **(origin or {}),
        }
        _save(result, folder, _metadata(spec, store), provenance)
        provenance["weights"] = record_stamp(folder)
        artifacts.append(
            TrainedArtifact(folder, spec, result.metrics, provenance, result.sae.d_in, host)
        )
    return artifacts


def open_stream(
    specs: Sequence[TrainRun],
    host: HostModel,
    workspace: Workspace,
    reporter: Reporter = SILENT,
    text_id: str | None = None,
) -> tuple[TokenStore, ActivationSource]:
    """What a training reads: the text of ``specs``, prepared, and the activations at all of their
    sites, deeper than which ``host`` is not kept.

    Raises ``DataError`` for a site that the host does not have, and where text and host are not
    those that ``text_id``, if given, was made of.
    """
    sites = sites_of(specs)
    for site in sites:
        host.site_width(site)  # an unknown site is told before the text is read
    store = prepare_text(specs[0].text, host, workspace, reporter)
    if text_id is not None and store.text_id != text_id:
        raise DataError(
            "The files of the host model or of the text have changed since the run began.",
            "Start the run again.",
        )
    source = activations(specs[0], sites, host, store, workspace)
    host.keep_up_to(sites)
    return store, source


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
    with reporter.stage("import", 1, "SAEs") as stage:
        opened = open_sae(place or spec.source)
        site = spec.site or opened.metadata.get("hook_name")
        if not isinstance(site, str) or not re.match(SITE_PATTERN, site):
            raise DataError(
                f"The files of {spec.source} do not say where it is hooked (but {site!r}).",
                "Set site, for instance site=blocks.9.hook_resid_post.",
            )
        spec = spec.model_copy(update={"site": site})
        host = load_host(spec.model)
        trained = as_trained(spec, opened.sae.spec.model_dump(mode="json"))
        _check_widths(opened.sae, trained, host)
        told = {"source": spec.source, "format": opened.format, "metadata": opened.metadata}
        provenance = {
            "spec": spec.model_dump(mode="json"),
            "imported": told,
            "model": host.info(),
            "metrics": {},
            "versions": versions(),
            **(origin or {}),
        }
        metadata = {**opened.metadata, "model_name": spec.model.name, "hook_name": site}
        save_sae(opened.sae, folder, metadata, provenance, opened.density)
        provenance["weights"] = record_stamp(folder)
        stage.advance()
    return TrainedArtifact(folder, trained, {}, provenance, opened.sae.d_in, host)


def _check_widths(sae: SAE, spec: TrainRun, host: HostModel) -> None:
    places = {spec.site: sae.d_in}
    if isinstance(spec.sae, TranscoderSpec):
        places[spec.sae.target_site] = sae.d_out
    for site, width in places.items():
        if host.site_width(site) != width:
            raise DataError(
                f"The SAE has width {width}; {host.name} has {host.site_width(site)} at {site}.",
                "Is it an SAE of this model and site?",
            )


def clear_checkpoints(folder: Path) -> None:
    """Removes what only an unfinished run needs; the curves stay."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".jsonl":
            path.unlink(missing_ok=True)


def _metadata(spec: TrainRun, store: TokenStore) -> dict[str, Any]:
    """As SAELens names it."""
    return {
        "model_name": spec.model.name,
        "hook_name": spec.site,
        "context_size": spec.text.context_size,
        "prepend_bos": spec.text.prepend_bos and store.bos_id is not None,
        "dataset_path": spec.text.source,
    }


def _save(
    result: TrainedSAE, folder: Path, metadata: dict[str, Any], provenance: dict[str, Any]
) -> None:
    save_sae(result.sae, folder, metadata, provenance, result.density)
    if result.baseline is not None:
        save_sae(result.baseline, folder / BASELINE, metadata, provenance)
    (folder / CURVES).write_text(
        training_page(provenance["spec"], result.history, result.metrics["density"]),
        encoding="utf-8",
    )


def evaluate(
    spec: EvaluateRun,
    sae: SaeFolder,
    workspace: Workspace,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Metrics on held-out documents, the frozen-random-decoder baseline beneath ``baseline``; of
    what they are is beneath ``about``: sae_digest, model_fingerprint, host_dtype, text_id.

    Raises ``DataError`` where the SAE, its host model or its text has changed since the training.
    """
    host = load_host(sae.spec.model)
    sae.check(host)  # before a text is cut by another tokenizer
    store = prepare_text(sae.spec.text, host, workspace, reporter)
    sae.check(host, store)
    about = {
        "sae_digest": sae.digest,
        "model_fingerprint": host.fingerprint,
        "host_dtype": str(host.dtype).removeprefix("torch."),
        "text_id": store.text_id,
    }
    source = activations(sae.spec, sites_of([sae.spec]), host, store, workspace)
    found = evaluate_sae(
        sae.sae,
        sae.baseline,
        host,
        store,
        source,
        sae.spec.site,
        spec.evaluation,
        reporter,
        max_norm=sae.max_norm,
        target_site=sae.target_site,
    )
    return {**found, "about": about}


def index(
    spec: IndexRun,
    sae: SaeFolder,
    folder_for: Callable[[str], Path],
    workspace: Workspace,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
) -> tuple[IndexReader, TokenStore, HostModel]:
    """Indexes the SAE over its training text or another; ``folder_for(text_id)`` says where.

    Raises ``DataError`` where the SAE or its host model has changed since the training, or, if no
    other was asked for, its text.
    """
    host = load_host(sae.spec.model)
    sae.check(host)
    store = prepare_text(spec.text or sae.spec.text, host, workspace, reporter)
    if spec.text is None:
        sae.check(host, store)
    made_of = {"sae_digest": sae.digest, "model_fingerprint": host.fingerprint}
    source = activations(sae.spec, [sae.spec.site], host, store, workspace)
    reader = build_index(
        sae.sae,
        source,
        host,
        store,
        folder_for(store.text_id),
        spec.indexing,
        reporter,
        max_norm=sae.max_norm,
        writes_to=sae.target_site,
        made_of=made_of,
    )
    return reader, store, host


def sites_of(specs: Sequence[TrainRun]) -> list[str]:
    """Every site that these SAEs read or reconstruct, each once."""
    sites: dict[str, None] = {}
    for spec in specs:
        sites[spec.site] = None
        if isinstance(spec.sae, TranscoderSpec):
            sites[spec.sae.target_site] = None
    return list(sites)


def activations(
    spec: TrainRun, sites: Sequence[str], host: HostModel, store: TokenStore, workspace: Workspace
) -> ActivationSource:
    """Activations of ``store`` at these sites, cached on disk if the spec says so."""
    caches: dict[str, Path] | None = None
    if spec.training.cache_activations:
        caches = {
            site: workspace.folder(
                "activations", f"{store.text_id}-{re.sub(r'[^A-Za-z0-9]+', '-', site)}"
            )
            for site in sites
        }
    return ActivationSource(host, store, sites, caches, spec.training.host_rows)
