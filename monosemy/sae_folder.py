"""An SAE folder of the workspace, and everything its provenance says about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monosemy.changes import listed
from monosemy.data.store import TokenStore, tokens_digest
from monosemy.data.text_stamp import text_changes
from monosemy.errors import DataError
from monosemy.formats.saelens import check_plugin, load_sae, read_provenance
from monosemy.sae_stamp import record_stamp, sae_stamp, weight_changes
from monosemy.saes.base import SAE
from monosemy.specs import BasisRun, ImportRun, TrainRun, parse_stored_spec
from monosemy.specs.hooks import Hooks
from monosemy.specs.readings import TrainingReading
from monosemy.specs.sets import SetPlace
from monosemy.training.history import read_history
from monosemy.workspace import Kind, Workspace

if TYPE_CHECKING:
    from monosemy.hosted_sae import HostedSAE
    from monosemy.models.columns import Limits
    from monosemy.models.host import HostModel

BASELINE = "baseline"
"""Sub-folder of an SAE folder that holds its frozen-decoder baseline."""
READINGS = "readings.jsonl"
"""File of an SAE folder with the readings of its training."""


def prepends_bos(folder: Path) -> bool:
    """Whether the rows that the SAE in this folder was trained on began with BOS."""
    metadata = json.loads((folder / "cfg.json").read_text(encoding="utf-8")).get("metadata") or {}
    return bool(metadata.get("prepend_bos", True))


@dataclass(frozen=True)
class SaeFolder:
    """An SAE folder with everything its provenance says about where it came from."""

    path: Path
    workspace: Workspace
    recorded: Mapping[str, Any] | None = None
    """What is kept elsewhere of its provenance, and holds where the folder says something else."""

    @cached_property
    def provenance(self) -> dict[str, Any]:
        return read_provenance(self.path)

    @property
    def name(self) -> str:
        """That in the spec that made it, or else its folder's."""
        return str(self.provenance["spec"].get("name") or self.path.name)

    @property
    def origin(self) -> Mapping[str, Any]:
        """What this SAE, its host model and its text are held to."""
        return self.recorded if self.recorded is not None else self.provenance

    @property
    def digest(self) -> str:
        """16 hex digits over all weights and settings that are in the folder now."""
        return sae_stamp(self.path).digest

    @property
    def host_fingerprint(self) -> str | None:
        """Of the host model it belongs to, in the form in which this was first stored: what was
        made with it is kept under that."""
        model = self.origin.get("model") or {}
        value = model.get("first_fingerprint") or model.get("fingerprint")
        return None if value is None else str(value)

    @property
    def set(self) -> SetPlace | None:
        """Its place in the set that it was trained in, if it was."""
        return SetPlace.of(self.origin.get("set"))

    def check(
        self,
        host: HostModel | None = None,
        store: TokenStore | None = None,
        renew: bool = True,
    ) -> None:
        """Raises ``DataError``, which names what has changed, unless the weights are those that
        were saved and ``host`` and ``store`` are the model and the text it was trained on.

        Stamps of the first form are verified as such and, to ``renew``, replaced in the folder's
        provenance.
        """
        changes = weight_changes(self.path, self.origin.get("weights") or self._own_weights())
        if changes:
            raise DataError(
                f"The files of the SAE in {self.path} have changed: {listed(changes)}.",
                "Put back what was there, or import the folder as an SAE of its own.",
            )
        faults = []
        model, text = self.origin.get("model"), self.origin.get("text")
        if host is not None and isinstance(model, Mapping):
            changes = host.changes_since(model)
            if changes:
                faults.append(f"the host model {host.name} ({listed(changes)})")
        if store is not None and isinstance(text, Mapping):
            changes = [] if self._same_tokens(text, store) else text_changes(text, store)
            faults += changes
        if faults:
            raise DataError(
                f"What the SAE in {self.path} was trained on has changed: {listed(faults)}.",
                "Put back what was there, or train a new SAE.",
            )
        if renew:
            self._renew(host, store)

    def check_other_hosts(self, hosts: Mapping[str, HostModel]) -> None:
        """The same for the host models of its run besides its own, by role."""
        recorded = self.origin.get("hosts") or {}
        faults = []
        for role, host in hosts.items():
            model = recorded.get(role)
            changes = host.changes_since(model) if isinstance(model, Mapping) else []
            if changes:
                faults.append(f"the host model {host.name} ({listed(changes)})")
        if faults:
            raise DataError(
                f"What the SAE in {self.path} was trained on has changed: {listed(faults)}.",
                "Put back what was there, or train a new SAE.",
            )

    def _own_weights(self) -> dict[str, Any]:
        """The stamp of now, where none was kept."""
        return sae_stamp(self.path).as_dict()

    def _same_tokens(self, text: Mapping[str, Any], store: TokenStore) -> bool:
        """For a text that was noted down before there were digests: whether its store, if it is
        still there, holds the same tokens."""
        text_id = text.get("text_id")
        if text.get("tokens_digest") is not None or not isinstance(text_id, str):
            return False
        try:
            old = TokenStore.open(self.workspace.find(Kind.TEXT, str(text_id)))
        except DataError:
            return False
        digest = tokens_digest(old.tokens, old.row_start, old.row_document)
        return digest == store.meta.get("tokens_digest")

    def _renew(self, host: HostModel | None, store: TokenStore | None) -> None:
        """Replaces stamps of the first form; they have been verified."""
        changed: dict[str, Any] = {}
        model, text = self.origin.get("model"), self.origin.get("text")
        if host is not None and isinstance(model, Mapping) and "parts" not in model:
            changed["model"] = restamped_model(model, host)
        if store is not None and isinstance(text, Mapping) and not text.get("tokens_digest"):
            stamps = {name: store.meta.get(name) for name in ("tokens_digest", "stamp")}
            changed["text"] = {**text, **stamps}
        if changed or "weights" not in self.origin:
            record_stamp(self.path, changed)

    @cached_property
    def spec(self) -> TrainRun:
        """The run that trained it, or would have; ``DataError`` for a folder that monosemy did not
        write, or whose architecture is from a plugin that is not here."""
        check_plugin(self.path)
        try:
            spec = parse_stored_spec(self.provenance["spec"])
        except KeyError:
            raise DataError(f"{self.path} does not say which run trained it.") from None
        if isinstance(spec, ImportRun | BasisRun):
            return as_trained(spec, self.provenance["sae"])
        assert isinstance(spec, TrainRun)
        return spec

    @cached_property
    def sae(self) -> SAE:
        return load_sae(self.path)

    @property
    def max_norm(self) -> Limits:
        """Norm above which training left tokens out; evaluation and index do the same.  None too
        where the folder has no figures of a training."""
        limit: Limits = self.provenance.get("metrics", {}).get("max_norm")
        return limit

    @property
    def readings(self) -> list[TrainingReading]:
        """What was read of its training, at most 4,000 readings; none of an SAE that was imported
        or needed no training."""
        name, runs = self.path.name, self.workspace.root_of(Kind.RUNS)
        sweep, _, place = name.rpartition("-")
        files = [
            self.path / READINGS,
            runs / name / "metrics.jsonl",  # where earlier versions left them
            runs / sweep / f"metrics-{place}.jsonl",
        ]
        return read_history(next((each for each in files if each.is_file()), files[0]))

    def hosted(self, host: HostModel, sae: SAE | None = None) -> HostedSAE:
        """It (or ``sae``: the same, on another device) in its host model; raises as that does."""
        from monosemy.hosted_sae import HostedSAE

        hooks = self.spec.hooks
        if hooks.other_hosts:  # whose widths the host at hand does not know
            hooks = Hooks.from_dict(self.provenance.get("hooks"))
        return HostedSAE(host, sae or self.sae, hooks, self.max_norm, self.host_fingerprint)

    @cached_property
    def baseline(self) -> SAE | None:
        folder = self.path / BASELINE
        return load_sae(folder) if folder.is_dir() else None


@dataclass(frozen=True)
class NamedFolder:
    """An SAE folder, and what results call it by."""

    name: str
    reference: str
    folder: SaeFolder


def restamped_model(recorded: Mapping[str, Any], host: HostModel) -> dict[str, Any]:
    """A host model's stored description with a fingerprint of today, the first one kept beside."""
    return {
        **recorded,
        "fingerprint": host.fingerprint,
        "parts": host.stamp.parts,
        "first_fingerprint": recorded.get("first_fingerprint") or recorded.get("fingerprint"),
    }


def as_trained(spec: ImportRun | BasisRun, sae: dict[str, Any]) -> TrainRun:
    """The spec of a training whose result this could be; ``sae`` holds the architecture's options.

    Raises ``SpecError`` where the SAE has no site.
    """
    names = {"name", "model", "text", "site", "reads", "writes"}
    shared = spec.model_dump(mode="json", include=names)
    trained = parse_stored_spec({"kind": "train", **shared, "sae": sae})
    assert isinstance(trained, TrainRun)
    return trained
