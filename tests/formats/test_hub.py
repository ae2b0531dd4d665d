"""``hub:`` sources against a server that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monosemy.errors import DataError
from monosemy.formats.hub import HubSource, parse_hub
from tests.support.hostile import CONFIG, safetensors

SHA = "a" * 40
REPOSITORY = {
    "cfg.json": CONFIG,
    "sae_weights.safetensors": safetensors(),
    "pytorch_model.bin": b"a pickle",
    "README.md": b"read me",
    "run/config.json": b'{"model": "tiny"}',
    "run/layers.3/cfg.json": CONFIG,
    "run/layers.3/sae.safetensors": safetensors(data=b"\1" * 24),
    "run/layers.4/sae.safetensors": safetensors(data=b"\2" * 24),
    "bad/sae.safetensors": safetensors(data=b"\0" * 23),
    "scope/hyperparams.json": b"{}",
    "scope/checkpoints/final.safetensors": safetensors(),
    "scope/checkpoints/other.safetensors": safetensors(),
    "set/config.yaml": b"model_kind: transcoder_set",
    "set/layer_0.safetensors": safetensors(),
    "deep/cfg.json": b"[" * 100,
    "deep/sae.safetensors": safetensors(),
}


class Hub(BaseHTTPRequestHandler):
    """``owner/name`` with one commit; ``asked`` holds every path that was asked for."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if path in ("/api/models/owner/name", "/api/models/owner/name/revision/v2"):
            siblings = [{"rfilename": name, "size": len(d)} for name, d in REPOSITORY.items()]
            info = {"id": "owner/name", "sha": SHA, "siblings": siblings, "private": False}
            self.send(json.dumps(info).encode(), body)
            return
        name = path.removeprefix(f"/owner/name/resolve/{SHA}/")
        if name in REPOSITORY:
            self.send(REPOSITORY[name], body)
            return
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, data: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


FETCH = """
import json, sys
from monosemy.errors import DataError
from monosemy.formats.archive import Limits
from monosemy.formats.hub import fetch_hub, parse_hub
results = []
for source in json.loads(sys.argv[1]):
    limits = Limits(total_bytes=int(sys.argv[2]))
    try:
        results.append(str(fetch_hub(parse_hub(source), limits)))
    except DataError as error:
        results.append("error: " + str(error))
assert "torch" not in sys.modules
print(json.dumps(results))
"""


def fetch(server: ThreadingHTTPServer, home: Path, *sources: str, limit: int = 10**6) -> list[str]:
    """In a process of its own: the hub's client reads its address when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", FETCH, json.dumps(sources), str(limit)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_only_the_named_folder_comes_and_no_pickle(
    hub: ThreadingHTTPServer, tmp_path: Path
) -> None:
    sources = ["hub:owner/name", "hub:owner/name@v2:run/layers.3"]
    root, layer = map(Path, fetch(hub, tmp_path, *sources))
    assert (root / "sae_weights.safetensors").read_bytes() == safetensors()
    assert sorted(path.name for path in layer.iterdir()) == ["cfg.json", "sae.safetensors"]
    assert layer.name == "layers.3"
    assert (layer / "sae.safetensors").read_bytes() == safetensors(data=b"\1" * 24)
    # It names the host model of a sparsify run.
    assert (layer.parent / "config.json").read_bytes() == b'{"model": "tiny"}'
    fetched = {path.rpartition("/resolve/")[2] for path in Hub.asked if "/resolve/" in path}
    assert not any(name.endswith((".bin", ".md")) or "layers.4" in name for name in fetched)


def test_what_other_layouts_need_comes_along(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    scope, layers = map(Path, fetch(hub, tmp_path, "hub:owner/name:scope", "hub:owner/name:set"))
    names = [path.relative_to(scope).as_posix() for path in scope.rglob("*") if path.is_file()]
    assert sorted(names) == ["checkpoints/final.safetensors", "hyperparams.json"]
    assert sorted(path.name for path in layers.iterdir()) == ["config.yaml", "layer_0.safetensors"]


def test_what_cannot_be_fetched_is_named(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    none, bad, deep, unknown = fetch(
        hub,
        tmp_path,
        "hub:owner/name:run",
        "hub:owner/name:bad",
        "hub:owner/name:deep",
        "hub:owner/other",
    )
    assert "no .safetensors or .npz file in run" in none
    assert "run/layers.3, run/layers.4" in none
    assert "damaged or no safetensors file" in bad
    assert "nested" in deep
    assert "Cannot fetch owner/other" in unknown


def test_sizes_are_known_before_anything_comes(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    (message,) = fetch(hub, tmp_path, "hub:owner/name", limit=50)
    assert "at most 50" in message
    assert not any("/resolve/" in path for path in Hub.asked)


def test_sources() -> None:
    assert parse_hub("/a/folder") is None
    assert parse_hub("release/sae") is None
    assert parse_hub("hub:o/n") == HubSource("o/n", None, "")
    assert parse_hub("hub:o/n@v1.0:a/b") == HubSource("o/n", "v1.0", "a/b")
    assert parse_hub("hub:o/n@refs/pr/1") == HubSource("o/n", "refs/pr/1", "")
    assert parse_hub("hub:o/n:layers.3") == HubSource("o/n", None, "layers.3")


@pytest.mark.parametrize(
    "source",
    [
        "hub:",
        "hub:name",
        "hub:/owner/name",
        "hub:owner/name/more",
        "hub:../name",
        "hub:owner/..",
        "hub:owner/a..b",
        "hub:owner/name@",
        "hub:owner/name@../x",
        "hub:owner/name@a/../b",
        "hub:owner/name:",
        "hub:owner/name:../x",
        "hub:owner/name:/etc",
        "hub:owner/name:a//b",
        "hub:https://evil.example/name",
        "hub:owner/name?x=1",
        "hub:owner/na me",
        "hub:owner/name@" + "a" * 200,
    ],
)
def test_sources_that_name_nothing(source: str) -> None:
    with pytest.raises(DataError):
        parse_hub(source)
