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

import torch

from monosemy.data.store import TokenStore, prepare_text
from monosemy.errors import DataError
from monosemy.evals.evaluate import KeepLatents, evaluate_sae, keep_none
from monosemy.formats.saelens import save_sae
from monosemy.index.builder import build_index
from monosemy.index.reader import IndexReader
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.run_hosts import HostLoader, Hosts, fingerprints, load_hosts, others_info
from monosemy.sae_folder import BASELINE, READINGS, SaeFolder
from monosemy.sae_stamp import record_stamp
from monosemy.specs import (
    EvaluateRun,
    IndexRun,
    TrainingSpec,
    TrainRun,
)
from monosemy.specs.hooks import HOST, Hook, Hooks
from monosemy.specs.sets import SetPlace
from monosemy.training.history import (
    MOST_READINGS,
    history_file,
    read_history,
    thinned,
    write_history,
)
from monosemy.training.job import Job
from monosemy.training.launch import train_in_processes
from monosemy.training.page import training_page
from monosemy.training.room import check_disk, check_memory, forecast
from monosemy.training.train import TrainedSAE, train_saes
from monosemy.versions import versions
from monosemy.workspace import Kind, Workspace

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
    sets: Sequence[SetPlace | None] | None = None,
) -> list[TrainedArtifact]:
    """``train`` for several SAEs of one host and text, each into the folder at its place.

    They see the same batches; ``stream`` says how long, how large and in which order; ``sets`` what
    place in a set each has.  ``DataError`` before anything is read where memory or disk do not
    suffice.
    """
    hosts = load_hosts(specs[0], load_host)
    host = hosts[HOST]
    check_memory(forecast(specs, stream, host), host)
    store, source = open_stream(specs, hosts, workspace, reporter)
    needed = forecast(specs, stream, host, store.n_tokens, source.cached_share())
    if sets is not None:
        reporter.log("forecast", **needed.megabytes())
    try:
        check_disk(needed, workspace.root)
    except DataError:
        source.close()
        raise
    if stream.devices > 1:
        source.close()  # the processes open it for themselves
        dtype = str(host.dtype).removeprefix("torch.")
        model = specs[0].model.model_copy(update={"dtype": dtype})
        job = Job(checkpoint_dir, list(specs), stream, model, workspace, store.text_id)
        trained = train_in_processes(job, reporter)
    else:
        trained = train_saes(specs, store, source, checkpoint_dir, reporter, stream=stream)
    artifacts = []
    for place, (spec, folder, result) in enumerate(zip(specs, folders, trained, strict=True)):
        hooks = spec.hooks.with_widths(lambda hook: hosts[hook.host].site_width(hook.site))
        provenance = {
            "spec": spec.model_dump(mode="json"),
            "model": host.info(),
            **others_info(hosts),
            "text": store.summary(),
            "hooks": hooks.as_dict(),
            "metrics": result.metrics,
            "versions": versions(),
            **(origin or {}),
        }
        in_set = sets[place] if sets is not None else None
        if in_set is not None:
            provenance["set"] = in_set._asdict()
        _save(result, folder, {**folder_metadata(spec, store), **hook_names(hooks)}, provenance)
        readings = read_history(history_file(checkpoint_dir, place, len(specs)))
        write_history(folder / READINGS, thinned(readings, MOST_READINGS))
        provenance["weights"] = record_stamp(folder)
        artifacts.append(
            TrainedArtifact(folder, spec, result.metrics, provenance, result.sae.d_in, host)
        )
    return artifacts


def open_stream(
    specs: Sequence[TrainRun],
    hosts: Hosts,
    workspace: Workspace,
    reporter: Reporter = SILENT,
    text_id: str | None = None,
) -> tuple[TokenStore, ActivationSource]:
    """What a training reads: the text of ``specs``, prepared, and the activations at all of their
    sites, deeper than which no host model is kept.

    Raises ``DataError`` for a site that its host does not have, and where text and host are not
    those that ``text_id``, if given, was made of.
    """
    sites = sites_of(specs)
    for hook in map(Hook.parse, sites):
        hosts[hook.host].site_width(hook.site)  # an unknown site is told before the text is read
    host = hosts[HOST]
    store = prepare_text(specs[0].text, host, workspace, reporter)
    if text_id is not None and store.text_id != text_id:
        raise DataError(
            "The files of the host model or of the text have changed since the run began.",
            "Start the run again.",
        )
    source = activations(specs[0], sites, hosts, store, workspace)
    if share := source.cached_share():
        reporter.log("activations of this text are cached already", share=round(share, 3))
    for role, each in hosts.items():
        each.keep_up_to([hook.site for hook in map(Hook.parse, sites) if hook.host == role])
    return store, source


def hook_names(hooks: Hooks) -> dict[str, Any]:
    """As SAELens names them; ``hooks`` says it whole where these names do not."""
    names: dict[str, Any] = {"hook_name": hooks.site}
    if hooks.transcodes:
        names["hook_name_out"] = str(hooks.writes[0])
    return names | ({"hooks": hooks.as_dict()} if len(hooks.places) > 1 else {})


def clear_checkpoints(folder: Path) -> None:
    """Removes what only an unfinished run needs; the curves stay."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".jsonl":
            path.unlink(missing_ok=True)


def folder_metadata(spec: TrainRun, store: TokenStore) -> dict[str, Any]:
    """Of an SAE folder, as SAELens names it."""
    return {
        "model_name": spec.model.name,
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
    keep_latents: KeepLatents = keep_none,
) -> dict[str, Any]:
    """Metrics on held-out documents, those of the frozen-decoder baseline beneath
    ``frozen_decoder_baseline``; of what they are is beneath ``about``: sae_digest,
    model_fingerprint, host_dtype, text_id.  ``keep_latents`` is given those of a crosscoder.

    Raises ``DataError`` where the SAE, its host model or its text has changed since the training.
    """
    hosts = load_hosts(sae.spec, load_host)
    host = hosts[HOST]
    sae.check(host)  # before a text is cut by another tokenizer
    sae.check_other_hosts(hosts)
    store = prepare_text(sae.spec.text, host, workspace, reporter)
    sae.check(host, store)
    about = {
        "sae_digest": sae.digest,
        "model_fingerprint": host.fingerprint,
        "host_dtype": str(host.dtype).removeprefix("torch."),
        "text_id": store.text_id,
        **fingerprints(hosts),
    }
    source = activations(sae.spec, sites_of([sae.spec]), hosts, store, workspace)
    metrics = evaluate_sae(
        sae.hosted(host), sae.baseline, store, source, spec.evaluation, reporter, keep_latents
    )
    return {**metrics, "about": about}


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
    hosts = load_hosts(sae.spec, load_host)
    host = hosts[HOST]
    sae.check(host)
    sae.check_other_hosts(hosts)
    store = prepare_text(spec.text or sae.spec.text, host, workspace, reporter)
    if spec.text is None:
        sae.check(host, store)
    made_of = {"sae_digest": sae.digest, "model_fingerprint": host.fingerprint}
    made_of |= fingerprints(hosts)
    hosted = sae.hosted(host)
    places = [str(hook) for hook in hosted.hooks.reads]
    source = activations(sae.spec, places, hosts, store, workspace)
    folder = folder_for(store.text_id)
    hosted.sae.search_dtype = torch.bfloat16 if host.dtype == torch.bfloat16 else None
    reader = build_index(hosted, source, store, folder, spec.indexing, reporter, made_of=made_of)
    return reader, store, host


def sites_of(specs: Sequence[TrainRun]) -> list[str]:
    """Every place that these SAEs read or reconstruct, each once."""
    return list(dict.fromkeys(str(hook) for spec in specs for hook in spec.hooks.places))


def activations(
    spec: TrainRun,
    sites: Sequence[str],
    hosts: HostModel | Hosts,
    store: TokenStore,
    workspace: Workspace,
) -> ActivationSource:
    """Activations of ``store`` at these sites, cached on disk if the spec says so."""
    if isinstance(hosts, HostModel):
        hosts = {HOST: hosts}
    caches: dict[str, Path] | None = None
    if spec.training.cache_activations:
        caches = {
            site: workspace.folder(Kind.ACTIVATIONS, f"{store.text_id}-{_cache_name(site, hosts)}")
            for site in sites
        }
    return ActivationSource(hosts, store, sites, caches, spec.training.host_rows)


def _cache_name(site: str, hosts: Hosts) -> str:
    """The text's id says which host model is the run's own; another's is told by its fingerprint,
    whatever a run calls it."""
    hook = Hook.parse(site)
    name = re.sub(r"[^A-Za-z0-9]+", "-", site)
    return name if hook.host == HOST else f"{name}-{hosts[hook.host].fingerprint[:16]}"
