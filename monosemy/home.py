"""A folder of artifacts that runs without a service work in, and what can be found there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from monosemy.errors import DataError, SpecError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.texts import FeatureTexts
from monosemy.labels import open_index
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.sae_folder import READINGS, SaeFolder
from monosemy.sae_stamp import check_index
from monosemy.specs import ModelSpec, RunSpec, SweepRun, TrainRun
from monosemy.specs.readings import TrainingReading
from monosemy.specs.sets import SetPlace
from monosemy.training.history import history_file, read_history
from monosemy.workspace import Kind, Workspace, fingerprint

_NAMES = 20
"""SAEs that an error lists."""


HOME = "monosemy-work"
"""Where artifacts are kept if nothing else is said."""


class Home:
    """The artifacts, and the host models that are loaded, each once."""

    def __init__(self, root: str | Path, reporter: Reporter = SILENT) -> None:
        self.workspace, self.reporter = Workspace(root), reporter
        self._hosts: dict[str, HostModel] = {}

    def host(self, model: ModelSpec) -> HostModel:
        """The host model, loaded at the first call."""
        key = model.model_dump_json()
        if key not in self._hosts:
            self._hosts[key] = HostModel.load(model, self.workspace, self.reporter)
        return self._hosts[key]

    def hosted(self, sae: SaeFolder) -> HostedSAE:
        """It in its host model, which is loaded once; raises as ``SaeFolder.check`` does."""
        host = self.host(sae.spec.model)
        sae.check(host)
        return sae.hosted(host)

    def name_of(self, spec: RunSpec) -> str:
        """What the artifacts of a run are called: equal specs have equal names."""
        return fingerprint(spec.model_dump(mode="json"))

    def sae(self, reference: str | Path | SaeFolder) -> SaeFolder:
        """The SAE in a folder, or of a name: that of its folder here, or of the spec that trained
        it.  ``DataError`` where there is none, or several have the name, ``SpecError`` for what is
        no name."""
        if isinstance(reference, SaeFolder):
            return reference
        if not isinstance(reference, str | Path):
            raise SpecError(
                [("sae", f"it takes an SAE, its name or its folder, not {reference!r:.80}")]
            )
        saes = self.workspace.root_of(Kind.SAES)
        for folder in (saes / str(reference), Path(reference).expanduser()):
            if (folder / "cfg.json").is_file():
                return SaeFolder(folder.resolve(), self.workspace)
        known = {each.parent.name: _given_name(each.parent) for each in saes.glob("*/cfg.json")}
        named = [folder for folder, name in known.items() if name == str(reference)]
        if len(named) == 1:
            return SaeFolder(saes / named[0], self.workspace)
        choices = named or sorted(known)
        listed = ", ".join(choices[:_NAMES]) + (" ..." if len(choices) > _NAMES else "")
        raise DataError(
            f"{'Several SAEs are' if named else 'No SAE is'} called '{reference}'.",
            f"Name the folder of an SAE; in {saes} there are: {listed or 'none'}.",
        )

    def set(self, name: str) -> list[SaeFolder]:
        """The SAEs of a set, by layer; ``DataError`` where there is none of this name."""
        there = self._in_sets()
        chosen = [each for place, each in there if place.name == name]
        if not chosen:
            names = ", ".join(self.set_names())
            saes = self.workspace.root_of(Kind.SAES)
            raise DataError(
                f"No set is called '{name}'.", f"In {saes} there are: {names or 'none'}."
            )
        return chosen

    def set_names(self) -> list[str]:
        """Of the sets that are here."""
        return list(dict.fromkeys(place.name for place, _ in self._in_sets()))

    def _in_sets(self) -> list[tuple[SetPlace, SaeFolder]]:
        """SAEs of sets, by set and layer."""
        saes = self.workspace.root_of(Kind.SAES)
        folders = [SaeFolder(each.parent, self.workspace) for each in saes.glob("*/cfg.json")]
        return sorted(
            ((place, each) for each in folders if (place := each.set) is not None),
            key=lambda pair: pair[0],
        )

    def readings(self, spec: TrainRun | SweepRun, place: int = 0) -> list[TrainingReading]:
        """What was read so far of a training, that of the SAE at ``place``; none where it has not
        begun."""
        members, name = spec.trainings(), self.name_of(spec)
        file = history_file(self.workspace.find(Kind.RUNS, name), place, len(members))
        if file.is_file():
            return read_history(file)
        sae = name if isinstance(spec, TrainRun) else f"{name}-{place:03d}"
        return read_history(self.workspace.find(Kind.SAES, sae) / READINGS)

    def index_folder(self, sae: SaeFolder, text_id: str) -> Path:
        """Where the index of an SAE over a text is, or is to be."""
        return self.workspace.folder(Kind.INDEXES, f"{self._key(sae)}-{text_id}")

    def graph_file(self, spec: RunSpec, number: int | None = None) -> Path:
        """Where the graph of a run is kept, of arrays; its folder is there then.  ``number``: of
        several."""
        name = "graph.npz" if number is None else f"graph-{number}.npz"
        return self.workspace.folder(Kind.GRAPHS, self.name_of(spec)) / name

    def is_indexed(self, sae: SaeFolder) -> bool:
        """Whether there is an index of an SAE here."""
        return self._newest_index(sae) is not None

    def texts(self, sae: SaeFolder) -> FeatureTexts:
        """The newest index of an SAE with its text; ``DataError`` where it has not been indexed."""
        newest = self._newest_index(sae)
        if newest is None:
            raise DataError(f"The SAE in {sae.path} has no index here.", "Index it first.")
        check_index(sae.path, newest.parent, sae.provenance.get("weights"), sae.path.name)
        return open_index(newest.parent)

    def _newest_index(self, sae: SaeFolder) -> Path | None:
        folders = self.workspace.root_of(Kind.INDEXES).glob(f"{self._key(sae)}-*/meta.json")
        return max(folders, key=lambda file: file.stat().st_mtime, default=None)

    def labels_file(self, sae: SaeFolder, texts: FeatureTexts) -> Path:
        """Where explanations and scores of its features are kept."""
        return self.workspace.folder(Kind.LABELS, f"{self._key(sae)}-{texts.store.text_id}") / (
            "labels.json"
        )

    def _key(self, sae: SaeFolder) -> str:
        """Of an SAE that lies elsewhere, with its content in it."""
        if sae.path.parent == self.workspace.root_of(Kind.SAES):
            return sae.path.name
        name = re.sub(r"[^A-Za-z0-9._]+", "-", sae.path.name).strip("-.") or "sae"
        return f"{name[:60]}-{sae.digest}"


def home_of(sae: object, home: str | Path | None) -> str | Path:
    """The artifacts' folder: as given, else that of the SAE, else the usual one."""
    if home is not None:
        return home
    return sae.workspace.root if isinstance(sae, SaeFolder) else HOME


def _given_name(folder: Path) -> str | None:
    """The name in the spec that trained the SAE in ``folder``."""
    try:
        data: Any = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    spec = data.get("spec") if isinstance(data, dict) else None
    return spec.get("name") if isinstance(spec, dict) else None
