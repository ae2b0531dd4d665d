"""``docker compose up`` from the repository: healthy, a pipeline through REST, a feature back."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE_IMAGES = ("python:3.11.11-slim", "pgvector/pgvector:0.8.1-pg17", "redis:7.4.2-alpine")
TINY = {
    "kind": "pipeline",
    "name": "compose-test",
    "text": {"max_tokens": 20_000, "context_size": 64},
    "site": "blocks.1.hook_resid_post",
    "sae": {"d_sae": 64, "k": 4},
    "training": {"tokens": 8_192, "batch_tokens": 1_024, "buffer_tokens": 2_048},
    "evaluation": {"tokens": 128, "reconstruction_tokens": 1_000},
    "indexing": {"max_tokens": 8_000},
    "explanation": None,
    "scoring": None,
}

SECRETS = (
    *("POSTGRES_PASSWORD", "POSTGRES_SERVICE_PASSWORD", "REDIS_PASSWORD"),
    *("MONOSEMY_SECRET", "MONOSEMY_PARTS_TOKEN", "LOCAL_JUDGE_KEY"),
)
"""Every variable that .env.example leaves empty."""

SCALED = ("--scale", "gpu-worker=2", "--scale", "interp-worker=3")

pytestmark = [pytest.mark.docker, pytest.mark.campaign, pytest.mark.timeout(1500)]


def why_no_compose() -> str | None:
    """Why Compose cannot read a file here, or None; that needs no engine."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    command = ["docker", "compose", "version", "--short"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if process.returncode:
        return "docker has no compose plugin here"
    major = re.match(r"v?(\d+)", process.stdout.strip())
    if major is None or int(major[1]) < 2:
        return f"Compose {process.stdout.strip()[:20]} is older than 2"
    return None


def why_not() -> str | None:
    """Why no engine can be had here, or None."""
    reason = why_no_compose()
    if reason:
        return reason
    if subprocess.run(["docker", "info"], capture_output=True, timeout=60).returncode:
        return "'docker info' fails: no Docker engine here"
    for image in BASE_IMAGES:
        here = subprocess.run(["docker", "image", "inspect", image], capture_output=True)
        if here.returncode and subprocess.run(["docker", "pull", image]).returncode:
            return f"the image {image} cannot be had"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Compose:
    def __init__(self) -> None:
        self.port = free_port()
        self.environment = os.environ | {
            "COMPOSE_PROJECT_NAME": f"monosemy-test-{secrets.token_hex(3)}",
            **{name: secrets.token_hex(24) for name in SECRETS},
            "VLLM_TAG": "v0.0.0",
            "MONOSEMY_PORT": str(self.port),
        }

    def __call__(self, *arguments: str, timeout: float = 300) -> str:
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    running = Compose()
    try:
        running("up", "-d", "--build", "--wait", *SCALED, timeout=1200)
        yield running
    finally:
        running("down", "-v", "--remove-orphans")


@pytest.fixture(scope="module")
def api(compose: Compose) -> Iterator[httpx.Client]:
    output = compose(
        "run", "--rm", "api", "monosemy", "keys", "create", "t", "--scopes", "read,run"
    )
    key = re.search(r"mnsy_\w+", output)
    assert key is not None, output
    base = f"http://127.0.0.1:{compose.port}/api/v1"
    with httpx.Client(base_url=base, headers={"X-API-Key": key[0]}, timeout=30) as client:
        yield client


def finished(api: httpx.Client, run_id: str, seconds: float) -> dict[str, Any]:
    """The run once it has ended; an API that restarts meanwhile is asked again."""
    end = time.monotonic() + seconds
    run: dict[str, Any] = {}
    while time.monotonic() < end:
        try:
            answer = api.get(f"/runs/{run_id}")
            if answer.status_code == 200:
                run = answer.json()
        except httpx.HTTPError:
            pass
        if run.get("state") in ("succeeded", "failed", "cancelled"):
            return run
        time.sleep(2)
    raise AssertionError(f"the run has not ended: {run}")


def test_a_key_is_asked_for(compose: Compose) -> None:
    assert httpx.get(f"http://127.0.0.1:{compose.port}/api/v1/saes").status_code == 401


def test_a_pipeline_ends_in_a_served_feature(api: httpx.Client) -> None:
    submitted = api.post("/runs", json=TINY)
    assert submitted.status_code == 201, submitted.text
    run = finished(api, submitted.json()["id"], 600)
    assert run["state"] == "succeeded", run["error"]
    sae = run["result"]["sae_id"]
    listed = api.get(f"/saes/{sae}/features", params={"sort": "density", "order": "desc"}).json()
    assert len(listed["items"]) == 50
    page = api.get(f"/saes/{sae}/features/{listed['items'][0]['index']}").json()
    assert page["postings"] > 0
    assert page["examples"]
    assert page["label"]


def test_a_person_logs_in_and_opens_a_feature(compose: Compose, api: httpx.Client) -> None:
    """With a browser's own means: a form, a cookie, no header of ours."""
    base = f"http://127.0.0.1:{compose.port}"
    path = "/saes/compose-test/features/0"
    with httpx.Client(base_url=base, headers={"Accept": "text/html"}, timeout=30) as browser:
        sent_on = browser.get(path)
        assert sent_on.status_code == 303
        login = browser.get(sent_on.headers["location"])
        assert login.status_code == 200 and 'name="key"' in login.text
        form = {"key": api.headers["X-API-Key"], "next": path}
        done = browser.post("/login", data=form, headers={"Origin": base})
        assert (done.status_code, done.headers["location"]) == (303, path), done.text
        assert "HttpOnly" in done.headers["set-cookie"]
        page = browser.get(path)
        assert page.status_code == 200 and "<h1>" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(base + path, headers={"Accept": "text/html"}).status_code == 303


def test_any_service_may_restart_under_a_run(compose: Compose, api: httpx.Client) -> None:
    training = {**TINY["training"], "tokens": 200_000, "checkpoint_seconds": 1}
    spec = {**TINY, "name": "restarted", "training": training}
    run_id = api.post("/runs", json=spec).json()["id"]
    for service in ("redis", "postgres", "api", "gpu-worker", "interp-worker", "inference"):
        compose("restart", service)
    run = finished(api, run_id, 600)
    assert run["state"] == "succeeded", run["error"]
    page = api.get("/saes/restarted/features", params={"limit": 200}).json()
    assert len(page["items"]) == 64


def test_a_backup_as_the_docs_take_it(compose: Compose, api: httpx.Client) -> None:
    # The extensions are the superuser's to make; what the dump holds runs as the service's role.
    whole = (
        "pg_dump -U monosemy -Fc --no-owner monosemy > /tmp/database.dump"
        " && createdb -U monosemy -O monosemy_service back"
        " && psql -q -U monosemy -d back -c 'CREATE EXTENSION vector; CREATE EXTENSION pg_trgm'"
        " && pg_restore -U monosemy_service -d back --no-owner --no-comments --single-transaction"
        " /tmp/database.dump && psql -U monosemy -d back -tAc 'SELECT count(*) FROM features'"
    )
    count = compose("exec", "-T", "postgres", "sh", "-c", whole)
    listed = api.get("/saes").json()["items"]
    assert int(count) == 64 * len(listed)
    pack = "tar -C /data/artifacts -cf - --exclude=./activations . | tar -t"
    names = compose("run", "--rm", "-T", "gpu-worker", "sh", "-c", pack)
    assert names.count("sae_weights.safetensors") >= len(listed)
    assert "activations/" not in names


@pytest.mark.parametrize("more", [["cuda"], ["vllm"], ["cuda", "vllm"]], ids="-".join)
def test_the_files_for_gpus_fit(more: list[str]) -> None:
    """As far as a machine without GPUs can tell: Compose accepts them together."""
    reason = why_no_compose()
    if reason:
        pytest.skip(reason)
    files = [f"docker-compose.{name}.yml" for name in more]
    chosen = [part for file in ("docker-compose.yml", *files) for part in ("-f", file)]
    config = json.loads(Compose()(*chosen, "config", "--format", "json"))["services"]
    if "cuda" in more:
        for name in ("gpu-worker", "inference"):
            (device,) = config[name]["deploy"]["resources"]["reservations"]["devices"]
            assert device["capabilities"] == ["gpu"]
    if "vllm" in more:
        assert "judge" not in config
        for name in ("api", "gpu-worker", "interp-worker"):
            environment = config[name]["environment"]
            assert environment["MONOSEMY_JUDGE_URL"] == "http://vllm:8000/v1"
            assert environment["MONOSEMY_DATABASE_URL"]
            key = environment.get("MONOSEMY_JUDGE_API_KEY")
            assert key == (None if name == "api" else config["vllm"]["environment"]["VLLM_API_KEY"])
        assert environment["MONOSEMY_JUDGE_MODEL"] in config["vllm"]["command"]


def test_the_warm_server_gives_activations(api: httpx.Client) -> None:
    sae = api.get("/saes").json()["items"][0]["id"]
    # The first call loads the host model, on however busy a machine.
    body = {"sae": sae, "text": "A king and a queen."}
    answer = api.post("/inference/activations", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    assert "".join(token["text"] for token in answer.json()["tokens"]) == "A king and a queen."


def test_containers_run_without_root_and_the_api_without_torch(compose: Compose) -> None:
    assert compose("exec", "api", "id", "-u").strip() != "0"
    assert compose("exec", "gpu-worker", "id", "-u").strip() != "0"
    output = compose(
        "exec", "api", "python", "-c", "import importlib.util as i; print(i.find_spec('torch'))"
    )
    assert output.strip() == "None"


def test_the_service_is_no_superuser_and_parts_ask_for_their_token(
    compose: Compose, api: httpx.Client
) -> None:
    del api  # everything is up
    me = "SELECT rolsuper FROM pg_roles WHERE rolname = 'monosemy_service'"
    output = compose("exec", "-T", "postgres", "psql", "-U", "monosemy", "-tAc", me)
    assert output.strip() == "f"
    ask = "import httpx; print(httpx.post('http://inference:8421/embed', json={}).status_code)"
    assert compose("exec", "-T", "api", "python", "-c", ask).strip() == "401"
    reach = "import socket; socket.create_connection(('postgres', 5432), 3)"
    for service in ("inference", "judge"):
        answer = subprocess.run(
            ["docker", "compose", "exec", "-T", service, "python", "-c", reach],
            cwd=ROOT,
            env=compose.environment,
            capture_output=True,
        )
        assert answer.returncode != 0
    written = compose("exec", "-T", "gpu-worker", "sh", "-c", "touch /opt/x || echo refused")
    assert "refused" in written
