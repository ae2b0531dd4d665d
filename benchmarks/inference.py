"""Activations of a text through the warm inference server, beside the bare forward and encode.

    python benchmarks/inference.py [--tokens 128] [--rounds 30] [--clients 8] [--json FILE]

SmolLM2-135M comes out of its package, the SAE is a TopK one with random weights.  The bare way is
``HostModel.capture`` of the ids and ``encode``, in the same process with the same threads; the
server is asked over HTTP on loopback, the engine behind it without HTTP, and the REST API before
it, a process of its own over PostgreSQL, which adds the features' labels.  All take turns in every
round, in an order that changes, and medians are told.  Then several clients ask at once: what waits
is read in batches.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx
import torch
import uvicorn
from results import Line, append, machine
from serving import Api
from sqlalchemy import Engine, text

from monosemy.formats.saelens import load_sae, save_sae
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import ModelSpec, TopKSpec
from monosemy.specs.inference.activations import SaeCall
from monosemy.workspace import Workspace
from service.database.migrate import migrate
from service.database.session import make_engine, transaction
from service.database.tables import Model, Sae
from service.settings import Settings
from service.stack.postgres import EmbeddedPostgres
from workers.inference import create_app
from workers.inference_engine import InferenceEngine
from workers.prompts import Prompt

MODEL = ModelSpec(name="smollm2-135m-instruct", device="cpu")
SAE_PATH = "saes/bench"
PASSAGE = (
    "The clockmaker of the old harbour repaired a map of the stars before sunrise, and counted the"
    " ships that came home with salt, copper and letters from people whom nobody remembered. "
)
BARE, ENGINE = "bare forward and encode", "engine, without HTTP"
SERVER, REST = "inference server", "REST API before it"
FEATURES = """
    INSERT INTO features (sae_id, index, density, max_activation, postings, label, evidence, examples)
    SELECT :sae, i, 0.01, 1, 100, 'token " ' || i || '" (90 %)', '{}', '' FROM generate_series(0, :last) i
"""  # noqa: E501


def text_of(host: HostModel, tokens: int, start: int = 0) -> tuple[str, list[int]]:
    """(text, its ids), of exactly so many tokens."""
    ids = host.tokenizer(PASSAGE * (tokens // 20 + 2), add_special_tokens=False)["input_ids"]
    for length in range(tokens, tokens + 20):
        words = host.tokenizer.decode(ids[start : start + length])
        again: list[int] = host.tokenizer(words, add_special_tokens=False)["input_ids"]
        if len(again) == tokens:
            return words, again
    raise SystemExit("No text of that length.")


def serve(settings: Settings) -> tuple[uvicorn.Server, str]:
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    return server, f"http://127.0.0.1:{port}"


def fill(engine: Engine, host: HostModel, site: str, d_sae: int) -> None:
    """The host model, the SAE and all of its features, as rows."""
    with transaction(engine) as session:
        info = {"fingerprint": "0" * 16, "d_model": host.d_model, "d_vocab": host.d_vocab}
        spec = MODEL.model_dump(mode="json")
        tokens = host.token_bytes().pack()
        model = Model(name=MODEL.name, spec=spec, info=info, token_bytes=tokens)
        session.add(model)
        session.flush()
        sae = Sae(
            name="bench",
            model_id=model.id,
            site=site,
            architecture="topk",
            d_in=host.site_width(site),
            d_sae=d_sae,
            path=SAE_PATH,
            config={},
            metrics={},
            provenance={},
        )
        session.add(sae)
        session.flush()
        session.execute(text(FEATURES), {"sae": sae.id, "last": d_sae - 1})
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))


def measure(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, interleaved, after three rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 3):
        names = list(calls) if number % 2 else list(calls)[::-1]
        for name in names:
            start = time.perf_counter()
            calls[name]()
            if number >= 3:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--layer", type=int, default=9)
    parser.add_argument("--d-sae", type=int, default=16_384)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, help="Add the result to this file as a line.")
    options = parser.parse_args()
    site = f"blocks.{options.layer}.hook_resid_post"
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as postgres,
    ):
        settings = Settings(home=Path(folder), log_level="ERROR")
        workspace = Workspace(settings.artifacts)
        host = HostModel.load(MODEL, workspace)
        sae = create(TopKSpec(d_sae=options.d_sae, k=32), host.site_width(site))
        sae.initialise(torch.Generator().manual_seed(0))
        spec = {"kind": "train", "model": {"name": MODEL.name}, "site": site}
        save_sae(sae, workspace.locate(SAE_PATH), {"prepend_bos": True}, {"spec": spec})
        migrate(postgres.url)
        fill(make_engine(postgres.url), host, site, options.d_sae)
        compare(options, settings, workspace, host, site, postgres.url)


def compare(
    options: argparse.Namespace,
    settings: Settings,
    workspace: Workspace,
    host: HostModel,
    site: str,
    database_url: str,
) -> None:
    sae = load_sae(workspace.locate(SAE_PATH))
    engine = InferenceEngine(workspace, settings.embedder, "cpu")
    server, address = serve(settings)
    client = httpx.Client(base_url=address, timeout=120, trust_env=False)
    os.environ["MONOSEMY_INFERENCE_URL"] = address
    api = Api(database_url, settings.home)
    rest = httpx.Client(base_url=f"{api.url}/api/v1", timeout=120, trust_env=False)
    passage, ids = text_of(host, options.tokens)
    row_BS = torch.tensor([[host.bos_id or 0, *ids]])
    asked = {
        "model": MODEL.model_dump(mode="json"),
        "saes": [{"id": "bench", "path": SAE_PATH, "site": site}],
        "top_k": 5,
    }

    def bare() -> None:
        with torch.no_grad():
            acts = host.capture(row_BS, torch.ones_like(row_BS), [site])[site][0, 1:]
            sae.encode(acts.float())

    def ask(what: str = passage) -> None:
        client.post("/activations", json={**asked, "text": what}).raise_for_status()

    def ask_api() -> None:
        body = {"sae": "bench", "text": passage}
        rest.post("/inference/activations", json=body).raise_for_status()

    saes, prompt = [SaeCall(id="sae", path=SAE_PATH, site=site)], Prompt(passage, None)
    calls: dict[str, Callable[[], Any]] = {
        BARE: bare,
        ENGINE: lambda: engine.activations(MODEL, saes, prompt, 5),
        SERVER: ask,
        REST: ask_api,
    }
    timings = measure(calls, options.rounds)
    print(f"{machine()}\n{options.tokens} tokens, {site}, {host.dtype}, d_sae {options.d_sae}")
    for name, median in timings.items():
        print(f"{name:28} {median * 1e3:8.1f} ms  {median / timings[BARE]:6.3f} x bare")
    texts = [text_of(host, options.tokens, start)[0] for start in range(options.clients)]
    start = time.perf_counter()
    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(ask, texts * 3))
    each = (time.perf_counter() - start) / (3 * options.clients)
    print(f"{options.clients} clients at once      {each * 1e3:8.1f} ms per text")
    if options.json:
        work = f"activations of {options.tokens} tokens, SmolLM2, over HTTP"
        peers = {name: timings[name] * 1e3 for name in (BARE, ENGINE, REST)}
        ours, floor = timings[SERVER] * 1e3, timings[BARE] * 1e3
        line = Line("inference", work, ours, "ms", peers, floor, options.rounds, machine())
        append(options.json, line)
    api.stop()
    server.should_exit = True


if __name__ == "__main__":
    main()
