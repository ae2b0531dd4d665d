"""What the API costs over 100,000 features in PostgreSQL: time, memory, bytes.

    python benchmarks/serving.py [--saes 25] [--features 4096] [--seconds 15] [--rate 100]

An index of synthetic codes (``index_build.py``) is published as several SAEs by the workers' own
code; one feature in ten gets an explanation.  The API runs as users run it, one process, over the
embedded PostgreSQL with its own settings; requests come over loopback from a process of their own,
at a fixed rate whether earlier ones are answered or not, and times count from the moment that a
request was due.  Everything shares this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from index_build import SyntheticHost, SyntheticSAE, SyntheticSource, synthetic_store
from results import Line, append, machine
from sqlalchemy import Engine, text

from monosemy.hosted_sae import HostedSAE
from monosemy.index.builder import build_index
from monosemy.index.reader import IndexReader
from monosemy.progress import SILENT
from monosemy.specs.parts import IndexingSpec
from service.database.migrate import migrate
from service.database.session import make_engine, transaction
from service.database.tables import Model
from service.features.size import measure_size
from service.stack.postgres import EmbeddedPostgres
from workers.publish import publish_index, publish_sae

TOKENS, WIDTH, VOCABULARY, K = 750_000, 64, 8192, 32


def fill(engine: Engine, folder: Path, saes: int, features: int) -> float:
    """Publishes the SAEs; features a second."""
    torch.manual_seed(0)
    store = synthetic_store(TOKENS, VOCABULARY)
    store.n_documents = int(store.row_document[-1]) + 1
    store.document_names = [f"document {number}" for number in range(store.n_documents)]
    host: Any = SyntheticHost(WIDTH, VOCABULARY)
    sae: Any = SyntheticSAE(features, WIDTH, K)
    source: Any = SyntheticSource(store, WIDTH)
    hosted = HostedSAE.at(host, sae, source.site)
    build_index(hosted, source, store, folder / "index", IndexingSpec())
    reader = IndexReader(folder / "index")
    with transaction(engine) as session:
        model = Model(
            name="synthetic",
            spec={"name": "synthetic"},
            info={"fingerprint": "0" * 16, "n_layers": 1, "d_model": WIDTH, "d_vocab": VOCABULARY},
            token_bytes=host.token_bytes().pack(),
        )
        session.add(model)
        session.flush()
        model_id = model.id
    seconds = 0.0
    for number in range(saes):
        with transaction(engine) as session:
            sae_id = uuid.uuid4()
            publish_sae(
                session,
                id=sae_id,
                name=f"sae-{number}",
                model_id=model_id,
                run_id=None,
                site=source.site,
                architecture="topk",
                d_in=WIDTH,
                d_sae=features,
                path=f"saes/{number}",
                config={"sae": {}, "text": {}, "training": {}},
                metrics={},
                provenance={},
            )
            begin = time.perf_counter()
            with SILENT.stage("publish", features, "features") as stage:
                publish_index(session, sae_id, reader, store, f"indexes/{number}", stage)
        seconds += time.perf_counter() - begin
    with engine.begin() as connection:
        connection.execute(text(_EXPLANATIONS))
        connection.execute(text("ANALYZE"))
    return saes * features / seconds


_EXPLANATIONS = """
    INSERT INTO explanations (id, sae_id, feature, explainer, key, label, text, judge, provenance,
                              embedding)
    SELECT gen_random_uuid(), sae_id, index, 'default', 'bench', 'label of ' || index,
           'Words about topic ' || (index % 97) || ' and whatever is near it.', 'judge', '{}',
           made.v::real[]::vector::halfvec
    FROM features CROSS JOIN LATERAL (
        SELECT array_agg(random() - 0.5) AS v FROM generate_series(1, 384 + 0 * features.index)
    ) made
    WHERE index % 10 = 0
"""


# -------------------------------------------------------------------- the server
class Api:
    """The API in a process of its own."""

    def __init__(self, database_url: str, home: Path) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            self.port = bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [str(Path(sys.executable).with_name("monosemy")), "serve"]
        settings = {
            "MONOSEMY_DATABASE_URL": database_url,
            "MONOSEMY_HOME": str(home),
            "MONOSEMY_LOG_LEVEL": "INFO",
        }
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            env={**os.environ, **settings},
            stdout=subprocess.DEVNULL,
            stderr=(home / "api.log").open("ab"),
        )
        while True:
            try:
                httpx.get(f"{self.url}/healthz", timeout=1.0, trust_env=False).raise_for_status()
                break
            except httpx.HTTPError:
                if self.process.poll() is not None or time.perf_counter() - self.begin > 30:
                    raise
                time.sleep(0.01)
        self.started = time.perf_counter() - self.begin

    def mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


# -------------------------------------------------------------------- the load
async def load(url: str, path: Callable[[random.Random], str], rate: float, seconds: float) -> Any:
    """Milliseconds of each request, from when it was due; and how many failed."""
    chance = random.Random(0)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    took: list[float] = []
    failed = 0
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=10.0, trust_env=False
    ) as client:
        for _ in range(20):  # connections and plans are made
            await client.get(path(chance))
        begin = time.perf_counter() + 0.05

        async def one(number: int) -> None:
            nonlocal failed
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            answer = await client.get(path(chance))
            failed += answer.status_code != 200
            took.append(1000 * (time.perf_counter() - due))

        await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    return took, failed


def work(options: argparse.Namespace) -> None:
    """One kind of load, in this process; prints its figures as JSON."""
    saes, features = options.saes, options.features

    def page(chance: random.Random) -> str:
        return f"/api/v1/saes/sae-{chance.randrange(saes)}/features/{chance.randrange(features)}"

    def listing(chance: random.Random) -> str:
        least = 10 ** -chance.uniform(2, 4)
        name = f"sae-{chance.randrange(saes)}"
        return f"/api/v1/saes/{name}/features?sort=density&order=desc&min_density={least}&limit=50"

    def search(chance: random.Random) -> str:
        return f"/api/v1/search?q=topic+{chance.randrange(97)}&limit=20"

    def search_one(chance: random.Random) -> str:
        return search(chance) + f"&sae=sae-{chance.randrange(saes)}"

    kinds = {"page": page, "listing": listing, "search": search, "search_one": search_one}
    put_load(options, kinds[options.load])


Load = tuple[str, float, str, str]
"""What is asked, its share of the rate, what it is, what is to be reached in ms."""
LOADS: tuple[Load, ...] = (
    ("page", 1.0, "feature page", "p50 8, p99 40"),
    ("listing", 0.2, "filtered listing", "p99 60"),
    ("search_one", 0.2, "search by words, one SAE", "p99 60"),
    ("search", 0.2, "search by words, all SAEs", "p99 60"),
)


class Report:
    """Prints rows; keeps them for ``make bench``."""

    def __init__(self, work: str, file: Path | None) -> None:
        self.work, self.file = work, file

    def row(self, name: str, value: float, unit: str, wanted: str = "", shown: str = "") -> None:
        text = shown or f"{value:,.2f} {unit}"
        print(f"{name:<34}{text:>34}" + (f"   to reach: {wanted}" if wanted else ""), flush=True)
        if self.file is not None:
            append(self.file, Line(name, self.work, value, unit, {}, None, 1, machine()))


def run(
    options: argparse.Namespace,
    work: Callable[[argparse.Namespace], None],
    measure: Callable[[argparse.Namespace, Path, str], None],
) -> None:
    """``work`` in a process that makes requests, else ``measure`` beside an empty database."""
    if options.load:
        work(options)
        return
    with filled_server() as (folder, url):
        measure(options, folder, url)


def main() -> None:
    run(options_of(__doc__, seconds=15.0, rate=100.0), work, measure)


def options_of(about: str, seconds: float, rate: float) -> argparse.Namespace:
    """What such a benchmark is asked for; ``load`` is set in a process that makes requests."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--saes", type=int, default=25)
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--rate", type=float, default=rate, help="feature pages a second")
    parser.add_argument("--json", type=Path, help="Add the results to this file as lines.")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def filled_server() -> Iterator[tuple[Path, str]]:
    """A folder for what is made, and the address of an empty, migrated database in it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, EmbeddedPostgres(Path(name) / "postgres") as server:
        migrate(server.url)
        yield Path(name), server.url


def report_starts(database_url: str, folder: Path, report: Report) -> None:
    """How long the API takes to start, and the memory that it has then."""
    starts = []
    for _ in range(3):
        api = Api(database_url, folder)
        starts.append(api.started)
        idle = api.mib()
        api.stop()
    report.row("cold start, median of 3", sorted(starts)[1], "s", "2")
    report.row("memory of the idle API", idle, "MiB", "150")


def report_loads(
    script: str, loads: Sequence[Load], options: argparse.Namespace, url: str, report: Report
) -> None:
    """Each load by a process of its own, which runs ``script``."""
    for kind, share, name, wanted in loads:
        rate = options.rate * share
        line = [sys.executable, script, "--load", kind, "--url", url, "--rate", str(rate)]
        for option in ("saes", "features", "seconds"):
            line += [f"--{option}", str(getattr(options, option))]
        done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        p50, p99 = figures["ms"]
        shown = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        if figures["failed"]:
            shown += f", {figures['failed']} FAILED"
        report.row(f"{name}, {rate:.0f}/s", p99, "ms (p99)", wanted, shown)


def put_load(options: argparse.Namespace, path: Callable[[random.Random], str]) -> None:
    """One load, in this process; prints its figures as JSON."""
    gc.disable()  # a pause of the generator's is no latency of the server's
    took, failed = asyncio.run(load(options.url, path, options.rate, options.seconds))
    print(json.dumps({"ms": np.percentile(took, [50, 99]).tolist(), "failed": failed}))


def measure(options: argparse.Namespace, folder: Path, database_url: str) -> None:
    engine = make_engine(database_url)
    rate = fill(engine, folder, options.saes, options.features)
    with transaction(engine) as session:
        first = session.execute(text("SELECT id FROM saes ORDER BY name LIMIT 1")).scalar_one()
        size = measure_size(session, first)
    engine.dispose()
    work = f"{options.saes * options.features:,} features"
    print(f"{work}; {machine()}")
    report = Report(work, options.json)
    report.row("bulk load (COPY, contexts too)", rate, "features/s", "2,000")
    report.row("a feature in the database", size.total / 1024, "KiB", "8")
    report_starts(database_url, folder, report)
    api = Api(database_url, folder)
    report_loads(__file__, LOADS, options, api.url, report)
    report.row("memory of the API after that", api.mib(), "MiB")
    api.stop()


if __name__ == "__main__":
    main()
