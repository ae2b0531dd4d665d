"""Fills a home with the library of an older commit and packs it as a fixture.

    git worktree add OLD e56f54f
    cd OLD && PYTHONPATH=OLD python CHECKOUT/tests/upgrade/fill_home.py CHECKOUT/tests/upgrade

Everything is that commit's own: library, API, workers, and the stubs of its tests.  Written is
``home-COMMIT.tar.xz`` with a backup (``backup/``), the host model, the text and a sparsify folder
(named in specs relative to the working directory), and ``filled.json``: what was submitted, and
what the API of that time answered.
"""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, select

from monosemy.formats.saelens import load_sae
from monosemy.formats.sparsify import save_sparsify
from monosemy.progress import SILENT
from service.app import create_app
from service.backup.backup import back_up
from service.database.migrate import migrate
from service.database.session import make_engine, transaction
from service.database.tables import Run
from service.keys.service import create_key
from service.settings import Settings
from tests.reference.stubs import embedder
from tests.support import stub_server
from tests.support.fixtures_database import embedded_postgres
from tests.support.interp_runs import judge
from tests.support.loopback import loopback_client
from tests.support.stub_server import StubServer
from tests.support.tiny_host import make_tiny_host, make_tiny_tokenizer
from tests.support.tiny_text import tiny_documents
from workers.gpu import GpuRuns
from workers.interp import InterpRuns
from workers.worker import Worker

API = "/api/v1"
JUDGE = ("127.83.65.69", 18_420)
"""Where the judge listens: stored answers are kept by its address, so the upgrade uses it again."""
SECRET = "the filled home's thirty-two characters"
SITE, OTHER_SITE = "blocks.2.hook_resid_post", "blocks.1.hook_resid_post"

SHARED = {
    "model": {"name": "model", "dtype": "float32", "device": "cpu"},
    "text": {"source": "text.jsonl", "context_size": 32, "heldout_fraction": 0.2},
}
SHORT = {"tokens": 2560, "batch_tokens": 128, "buffer_tokens": 256}
FEW = {"indices": None, "count": 4, "min_postings": 5, "max_density": 1.0}
ASKING = {"concurrency": 1}
SCORED = {"positives": 4, "negatives": 4, "texts_per_call": 4, "judge": ASKING}


def specs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kind of run, by a name."""
    small = {"d_sae": 24, "k": 4, "dead_after_tokens": 1000}
    for name, architecture in (("first", "topk"), ("second", "batchtopk")):
        yield (
            f"pipeline {name}",
            {
                "kind": "pipeline",
                "name": name,
                **SHARED,
                "site": SITE,
                "sae": {"architecture": architecture, **small},
                "training": {**SHORT, "tokens": 5120, "warmup_steps": 5, "learning_rate": 0.003},
                "evaluation": {"tokens": 512, "reconstruction_tokens": 1024},
                "indexing": {"top_examples": 4, "quantile_examples": 2, "window": 8},
                "explanation": {"features": FEW, "examples": 4, "judge": ASKING},
                "scoring": SCORED,
            },
        )
    transcoder = {"architecture": "transcoder", "d_sae": 24, "k": 4}
    transcoder |= {"target_site": "blocks.2.hook_mlp_out"}
    across = {"kind": "train", "name": "across", **SHARED, "site": OTHER_SITE, "sae": transcoder}
    yield "train", {**across, "training": SHORT}
    sweep = {"kind": "sweep", "name": "many", **SHARED, "sites": [SITE, OTHER_SITE]}
    yield "sweep", {**sweep, "saes": [small], "seeds": [0], "training": SHORT}
    yield (
        "import",
        {"kind": "import", "name": "taken", **SHARED, "source": "sparsify", "site": SITE},
    )
    yield "evaluate", {"kind": "evaluate", "sae": "taken", "evaluation": {"tokens": 512}}
    yield "index", {"kind": "index", "sae": "taken", "indexing": {"max_tokens": 1000}}
    wanted = {"explainer": "contrastive", "features": FEW, "examples": 3, "judge": ASKING}
    yield "explain", {"kind": "explain", "sae": "first", "explanation": wanted}
    for scorer in ("detection", "fuzzing", "embedding"):
        scoring = {**SCORED, "scorer": scorer}
        yield f"score {scorer}", {"kind": "score", "sae": "first", "scoring": scoring}
    for by in ("decoder", "tokens", "explanations"):
        compare = {"kind": "compare", "sae": "first", "other": "second", "by": by}
        yield f"compare by {by}", {**compare, "method": "mutual"}


STOPPED = {
    "kind": "train",
    "name": "stopped",
    **SHARED,
    "site": SITE,
    "sae": {"d_sae": 16, "k": 4},
    "training": {**SHORT, "tokens": 30_000, "checkpoint_seconds": 0.05},
}


class Judge(StubServer):
    """At an address that is the same each time."""

    def __enter__(self) -> StubServer:
        server = ThreadingHTTPServer
        stub_server.ThreadingHTTPServer = lambda _, handler: server(JUDGE, handler)  # type: ignore[misc,assignment]
        try:
            return super().__enter__()
        finally:
            stub_server.ThreadingHTTPServer = server  # type: ignore[misc]

    @property
    def url(self) -> str:
        return f"http://{JUDGE[0]}:{JUDGE[1]}/v1"


class Home:
    """A database, two workers and the API."""

    def __init__(self, settings: Settings, client: TestClient) -> None:
        self.settings, self.client = settings, client
        self.engine: Engine = make_engine(settings.database_url)

    def worker(self, queue: str) -> Worker:
        runs = GpuRuns if queue == "gpu" else InterpRuns
        return Worker(queue, self.settings, runs(self.settings, self.engine), self.engine)

    def submit(self, name: str, spec: dict[str, Any]) -> str:
        answer = self.client.post(f"{API}/runs", json=spec)
        assert answer.status_code < 300, f"{name}: {answer.text}"
        return str(answer.json()["id"])

    def work(self) -> None:
        workers = [self.worker(queue) for queue in ("gpu", "interp")]
        while any(worker._take_one() for worker in workers):
            pass
        with transaction(self.engine) as session:
            for run in session.scalars(select(Run)):
                assert run.state == "succeeded", f"{run.kind}: {run.state}, {run.error}"

    def stop_a_training(self) -> str:
        """A run that was told to end in the middle; its checkpoint stays."""
        run = self.submit("stopped", STOPPED)
        worker = self.worker("gpu")
        folder = self.settings.artifacts / "runs" / run

        def stop() -> None:
            while not any(folder.glob("step-*")):
                time.sleep(0.01)
            worker.stop()

        thread = threading.Thread(target=stop)
        thread.start()
        assert worker._take_one()
        thread.join()
        with transaction(self.engine) as session:
            (row,) = session.scalars(select(Run).where(Run.state != "succeeded"))
            assert (str(row.id), row.state) == (run, "queued")
        return run


def gather(client: TestClient) -> None:
    """What people do: an explanation of their own, votes, tags, lists, given scores.

    Of the second SAE: what they say of a feature is the newest, and what is asked of the first is
    asked again.
    """

    def send(method: str, path: str, body: Any) -> Any:
        answer = client.request(method, f"{API}{path}", json=body)
        assert answer.status_code < 300, f"{path}: {answer.text}"
        return answer.json()

    features = client.get(f"{API}/saes/second/features", params={"has_explanation": True}).json()
    indices = [item["index"] for item in features["items"]]
    page = f"/saes/second/features/{indices[0]}"
    own = send(
        "POST", f"{page}/explanations", {"text": "Lanterns by the harbour.", "label": "lamps"}
    )
    send("PUT", f"/explanations/{own['id']}/vote", {"value": 1})
    listed = client.get(f"{API}{page}/explanations").json()["items"]
    send("PUT", f"/explanations/{listed[-1]['id']}/vote", {"value": -1})
    judged = [{"activating": n % 2 == 0, "answer": n % 3 == 0} for n in range(8)]
    given = {"scorer": "detection", "source": "elsewhere", "judgements": judged}
    send("POST", f"/explanations/{own['id']}/scores", given)
    for index in indices[:3]:
        send("POST", f"/saes/second/features/{index}/tags", {"tags": ["checked", f"tag {index}"]})
    send("POST", "/lists", {"name": "To look at", "description": "for Monday"})
    entries = [{"sae": "second", "feature": index} for index in reversed(indices[:3])]
    send("POST", "/lists/To look at/entries", {"entries": entries})


def answers(client: TestClient) -> dict[str, Any]:
    """Every page that a reader sees, by its address."""
    answers_by_path: dict[str, Any] = {}

    def read(path: str) -> Any:
        answer = client.get(f"{API}{path}")
        assert answer.status_code == 200, f"{path}: {answer.text}"
        answers_by_path[path] = answer.json()
        return answers_by_path[path]

    for sae in read("/saes?limit=100")["items"]:
        name = sae["name"]
        read(f"/saes/{name}")
        if name not in ("first", "second", "taken"):
            continue
        for item in read(f"/saes/{name}/features?limit=100")["items"]:
            page = f"/saes/{name}/features/{item['index']}"
            read(page)
            if item["index"] < 3:
                read(f"{page}/examples")
            if item["explanation"] is not None:
                read(f"{page}/explanations")
                read(f"{page}/scores")
                read(f"{page}/links")
        read(f"/saes/{name}/features?sort=density&order=desc&limit=10")
        read(f"/saes/{name}/features?sort=score&order=desc&limit=10")
        if name == "first":
            read(f"/saes/{name}/report")
    for query in ("harbour lantern", "winter", "the broken engine", "botanst", "lamps"):
        read(f"/search?q={query}")
    for row in read("/comparisons")["items"]:
        read(f"/comparisons/{row['id']}")
        read(f"/comparisons/{row['id']}/matches")
    for path in ("/models", "/lists", "/lists/To look at", "/tags", "/spend"):
        read(path)
    for run in read("/runs?limit=100")["items"]:
        read(f"/runs/{run['id']}")
    return answers_by_path


def fill(home: Path, database: str) -> dict[str, Any]:
    """Works in the current directory; the backup goes to ``backup``."""
    host = make_tiny_host(make_tiny_tokenizer())
    host.model.to(torch.bfloat16).save_pretrained("model")  # half the bytes
    host.tokenizer.save_pretrained("model")
    lines = [json.dumps({"title": f"{i}", "text": t}) for i, t in enumerate(tiny_documents(24))]
    Path("text.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    migrate(database)
    with Judge(respond=judge) as stub, embedder() as inference:
        settings = Settings(
            home=home,
            database_url=database,
            redis_url=None,
            inference_url=inference,
            judge_url=stub.url,
            judge_model="stub",
            secret=SecretStr(SECRET),
            device="cpu",
            log_level="ERROR",
        )
        with loopback_client(create_app(settings)) as client:
            filled = Home(settings, client)
            submitted = {}
            for name, spec in specs():
                if name == "import":
                    _export(filled)
                submitted[name] = {"run": filled.submit(name, spec), "spec": spec}
                filled.work()
            with transaction(filled.engine) as session:
                key = create_key(session, "reader", ("read", "run"), settings.secret)
            keyed = settings.model_copy(update={"require_keys": True})
            with loopback_client(create_app(keyed)) as client_with_key:
                client_with_key.headers["Authorization"] = f"Bearer {key}"
                gather(client_with_key)
            stopped = filled.stop_a_training()
            read = answers(client)
        back_up(database, settings.artifacts, Path("backup"), SILENT)
        filled.engine.dispose()
    return {
        "judge": list(JUDGE),
        "asked": len(stub.requests),
        "secret": SECRET,
        "key": key,
        "submitted": submitted,
        "stopped": stopped,
        "answers": read,
    }


def _export(filled: Home) -> None:
    path = filled.client.get(f"{API}/saes/first").json()["path"]
    save_sparsify(load_sae(filled.settings.artifacts / path), Path("sparsify"), {"hook_name": SITE})


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    commit = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name) / "work"
        work.mkdir()
        with embedded_postgres(Path(name) / "postgres") as server, _inside(work):
            filled = fill(Path(name) / "home", server.url)
        (work / "filled.json").write_text(json.dumps({"commit": commit, **filled}))
        target = out / f"home-{commit}.tar.xz"
        with lzma.open(target, "wb", preset=9) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for path in sorted(work.iterdir()):
                tar.add(path, path.name)
    sys.stdout.write(f"{target}: {target.stat().st_size} bytes, {filled['asked']} questions\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
