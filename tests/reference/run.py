"""Runs the reference with whatever ``monosemy`` is imported, and writes what came out.

    python -m tests.reference.run OUT --work FOLDER [--small] [--database URL]

``OUT/digests.json`` has a digest of every tensor, column, file and answer; ``OUT/figures.json``
figures that a person can read and that another machine gives too, to rounding; ``OUT/weights`` the
SAEs.  ``commits.run`` starts it with one thread.  ``FOLDER`` is emptied first.  Its path is part of
stored names, so that two runs that are to be compared use the same one, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import uuid
from contextlib import nullcontext
from math import fsum
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from monosemy.formats.saelens import load_sae
from monosemy.formats.sparsify import save_sparsify
from monosemy.specs import parse_spec
from service.app import create_app
from service.database.migrate import migrate
from service.database.session import make_engine, transaction
from service.database.tables import Run, Sae
from service.runs import lifecycle
from service.settings import Settings
from tests.reference.digests import Digests, digest, normalised, of_document, of_folder, of_rows
from tests.reference.plan import SITE, Step, plan
from tests.reference.stubs import embedder, judge
from tests.support.fixtures_database import embedded_postgres
from tests.support.stub_server import StubServer
from tests.support.tiny_host import make_tiny_host, make_tiny_tokenizer
from tests.support.tiny_text import tiny_documents
from workers.gpu import GpuRuns
from workers.interp import InterpRuns
from workers.worker import Worker

_LONG_AGO = 1_600_000_000
_FIGURES = ("fvu", "l0", "loss", "dead_share")
# Not what is recovered of the loss: of a random model that is a share of next to nothing.
_EVALUATED = ("fvu", "l0", "ce_clean", "ce_sae", "kl")
_READ = (
    *("features", "features/1", "features/1/examples", "report"),
    *("features.arrow", "activations.arrow"),
)


class Reference:
    """A database, two workers and what they have made."""

    def __init__(self, work: Path, database: str, judge_url: str, inference_url: str) -> None:
        self.work = work
        self.settings = Settings(
            home=work / "home",
            database_url=database,
            redis_url=None,
            inference_url=inference_url,
            judge_url=judge_url,
            judge_model="stub",
            device="cpu",
            log_level="ERROR",
        )
        self.engine: Engine = make_engine(database)
        self.workers = [
            Worker("gpu", self.settings, GpuRuns(self.settings, self.engine), self.engine),
            Worker("interp", self.settings, InterpRuns(self.settings, self.engine), self.engine),
        ]
        self.names = {judge_url: "judge", inference_url: "inference"}
        """Of ids and addresses, which are new each time."""

    def prepare(self) -> None:
        """The host model and the text."""
        host = make_tiny_host(make_tiny_tokenizer())
        host.model.save_pretrained(self.work / "model")
        host.tokenizer.save_pretrained(self.work / "model")
        text = self.work / "text.jsonl"
        lines = [json.dumps({"title": f"{i}", "text": t}) for i, t in enumerate(tiny_documents())]
        text.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.utime(text, (_LONG_AGO, _LONG_AGO))  # part of the text's name

    def run(self, step: Step) -> None:
        """Submits one step and works until nothing is left to do; ``SystemExit`` if it failed."""
        if step.spec["kind"] == "import":
            self._export_first()
        with transaction(self.engine) as session:
            run = lifecycle.create_run(session, parse_spec(step.spec))
            self.names[str(run.id)] = step.name
            submitted: uuid.UUID = run.id
            for child in session.scalars(select(Run).where(Run.parent_id == run.id)):
                self.names[str(child.id)] = f"{step.name}: {child.position} {child.kind}"
        while any(worker._take_one() for worker in self.workers):
            pass
        with transaction(self.engine) as session:
            done = session.get_one(Run, submitted)
            if done.state != "succeeded":
                raise SystemExit(f"{step.name} has {done.state}: {done.error}")
        self._name_saes()

    def _name_saes(self) -> None:
        # An SAE has the id of the run that trained it: here its name says more.
        for sae in self.saes():
            self.names[str(sae.id)] = sae.name
            self.names[str(sae.model_id)] = "model"

    def saes(self) -> list[Sae]:
        with transaction(self.engine) as session:
            return list(session.scalars(select(Sae).order_by(Sae.name)))

    def _export_first(self) -> None:
        with transaction(self.engine) as session:
            sae = session.scalars(select(Sae).where(Sae.name == "topk")).one()
        folder = Path(self.settings.artifacts) / sae.path
        save_sparsify(load_sae(folder), self.work / "exported", {"hook_name": SITE})

    def digests(self) -> Digests:
        digests = of_rows(self.engine, self.names)
        artifacts = Path(self.settings.artifacts)
        for sae in self.saes():
            digests |= of_folder(artifacts / sae.path, f"weights/{sae.name}", self.names)
            if sae.index is not None:
                path = artifacts / sae.index["path"]
                digests |= of_folder(path, f"index/{sae.name}", self.names)
        digests |= of_folder(self.work / "exported", "exported", self.names)
        app = create_app(self.settings)
        digests |= dict(of_document(app.openapi()))
        address = "http://127.0.0.1"
        with TestClient(app, address, client=("127.0.0.1", 1)) as client:
            for sae in self.saes():
                if sae.index is not None:
                    digests |= self._served(client, sae.name)
        return digests

    def _served(self, client: TestClient, sae: str) -> Digests:
        digests: Digests = {}
        for path in _READ:
            answer = client.get(f"/api/v1/saes/{sae}/{path}")
            name = f"served/{sae}/{path}"
            if answer.status_code != 200:  # an older commit may not have it
                digests[name] = f"status {answer.status_code}"
            elif path.endswith(".arrow"):
                digests[name] = digest(_table(answer.content, self.names))
            else:
                digests[name] = digest(normalised(answer.json(), self.names))
        return digests

    def figures(self) -> dict[str, dict[str, float]]:
        """By SAE: what another machine gives as well, to rounding."""
        figures_of = {}
        for sae in self.saes():
            figures = {name: sae.metrics[name] for name in _FIGURES if name in sae.metrics}
            evaluated = sae.metrics.get("evaluation", {})
            figures |= {f"held-out {n}": evaluated[n] for n in _EVALUATED if n in evaluated}
            if sae.index is not None:
                figures |= {f"index {name}": sae.index[name] for name in ("tokens", "postings")}
            figures_of[sae.name] = {
                name: value for name, value in figures.items() if value is not None
            }
        return figures_of

    def scores(self) -> dict[str, dict[str, float]]:
        """By SAE and scorer: the mean over features, for people to read."""
        query = (
            "SELECT s.name, x.scorer, array_agg(x.value) FROM scores x"
            " JOIN explanations e ON e.id = x.explanation_id JOIN saes s ON s.id = e.sae_id"
            " GROUP BY 1, 2 ORDER BY 1, 2"
        )
        means: dict[str, dict[str, float]] = {}
        with self.engine.connect() as connection:
            for sae, scorer, values in connection.exec_driver_sql(query):
                present = [value for value in values if value is not None]
                if present:  # fsum: rows come in any order
                    means.setdefault(sae, {})[scorer] = fsum(present) / len(present)
        return means


def _table(content: bytes, names: dict[str, str]) -> Any:
    import pyarrow as pa

    rows = pa.ipc.open_stream(content).read_all().to_pylist()
    return normalised(json.loads(json.dumps(rows, default=str)), names)


def run_reference(out: Path, work: Path, database: str | None, small: bool) -> None:
    """Writes digests, figures and weights into ``out``."""
    torch.set_num_threads(1)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    out.mkdir(parents=True, exist_ok=True)
    server = nullcontext(None) if database else embedded_postgres(work / "postgres")
    with server as postgres, StubServer(respond=judge) as stub, embedder() as inference:
        url = database or postgres.url  # type: ignore[union-attr]
        migrate(url)
        reference = Reference(work, url, stub.url, inference)
        reference.prepare()
        paths = (work / name for name in ("model", "text.jsonl", "exported"))
        for step in plan(*(str(path) for path in paths), small):
            reference.run(step)
        _write(out / "digests.json", reference.digests())
        _write(out / "figures.json", reference.figures())
        _write(out / "scores.json", reference.scores())
        for sae in reference.saes():
            folder = Path(reference.settings.artifacts) / sae.path
            kept = out / "weights" / sae.name
            kept.mkdir(parents=True, exist_ok=True)
            for file in folder.glob("*.safetensors"):
                shutil.copy(file, kept)
        reference.engine.dispose()


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--small", action="store_true", help="two architectures, fewer kinds")
    parser.add_argument("--database", help="an empty database; one of its own by default")
    options = parser.parse_args(arguments)
    run_reference(options.out, options.work, options.database, options.small)
    return 0


if __name__ == "__main__":
    sys.exit(main())
