"""Who gets into the inference server, and what it loads for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from monosemy.errors import MonosemyError
from monosemy.exit_codes import USAGE
from service.edge.inner_access import check_inner_exposure
from service.settings import Settings
from workers.inference import create_app, main

TOKEN = "a-token-between-parts"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}
PATHS = [
    "/activations",
    "/contrast",
    "/attention",
    "/graph-steering",
    "/graph-heads",
    "/graph-score",
    "/tokenize",
    "/steer",
    "/embed",
    "/metrics",
    "/nothing",
]


def server(
    home: Path, host: str = "127.0.0.1", caller: str = "127.0.0.1", **changes: object
) -> TestClient:
    settings = Settings(home=home, **changes)  # type: ignore[arg-type]
    return TestClient(create_app(settings), base_url=f"http://{host}:8421", client=(caller, 5))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"X-API-Key": TOKEN},
    ],
)
def test_without_the_token_nothing_is_served(
    tmp_path: Path, path: str, shown: dict[str, str]
) -> None:
    client = server(tmp_path, parts_token=SecretStr(TOKEN))
    for method in ("GET", "POST"):
        answer = client.request(method, path, headers=shown)
        assert answer.status_code == 401
        assert answer.json()["type"] == "urn:monosemy:problem:unauthenticated"


def test_with_the_token_it_serves_and_health_needs_none(tmp_path: Path) -> None:
    client = server(tmp_path, caller="10.0.0.7", parts_token=SecretStr(TOKEN))
    assert client.get("/metrics", headers=SHOWN).status_code == 200
    assert client.post("/embed", headers=SHOWN, json={}).status_code == 422
    assert client.get("/healthz").status_code == 200
    assert client.get("/healthz", headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.get("/openapi.json", headers=SHOWN).status_code == 404


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("10.1.2.3", True),
        ("inference", True),
        ("INFERENCE", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("inference.evil.example", False),
    ],
)
def test_the_host_is_looked_at(tmp_path: Path, host: str, served: bool) -> None:
    client = server(
        tmp_path, host, parts_token=SecretStr(TOKEN), inference_url="http://inference:8421"
    )
    for path in ("/metrics", "/healthz"):
        assert client.get(path, headers=SHOWN).status_code == (200 if served else 403)


@pytest.mark.parametrize("origin", ["null", "http://127.0.0.1:8421", "https://evil.example"])
def test_pages_in_browsers_are_refused(tmp_path: Path, origin: str) -> None:
    for token in (None, SecretStr(TOKEN)):
        client = server(tmp_path, parts_token=token)
        answer = client.get("/metrics", headers={**SHOWN, "Origin": origin})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("host", "caller", "served"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("127.0.0.1", "10.0.0.7", False),
        ("10.1.2.3", "127.0.0.1", False),
        ("evil.example", "127.0.0.1", False),
    ],
)
def test_without_a_token_it_serves_this_machine_alone(
    tmp_path: Path, host: str, caller: str, served: bool
) -> None:
    client = server(tmp_path, host, caller)
    assert client.get("/metrics").status_code == (200 if served else 403)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "inference"])
def test_it_listens_to_others_only_with_a_token(
    tmp_path: Path,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(MonosemyError, match="MONOSEMY_PARTS_TOKEN"):
        check_inner_exposure(Settings(home=tmp_path), host)
    check_inner_exposure(Settings(home=tmp_path, parts_token=SecretStr(TOKEN)), host)
    check_inner_exposure(Settings(home=tmp_path), "127.0.0.1")
    monkeypatch.setattr("sys.argv", ["inference", "--host", host])
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path))
    monkeypatch.delenv("MONOSEMY_PARTS_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == USAGE and "MONOSEMY_PARTS_TOKEN" in capsys.readouterr().err


BODIES = {
    "/activations": {"text": "x", "saes": [{"id": "s", "path": "saes/s", "site": "x"}]},
    "/tokenize": {"text": "x"},
    "/contrast": {
        **{"positive": ["a"], "negative": ["b"]},
        "sae": {"id": "s", "path": "saes/s", "site": "x"},
    },
    "/attention": {
        **{"text": "x", "through": []},
        "sae": {"id": "s", "path": "saes/s", "site": "x"},
    },
    "/steer": {
        **{"prompt": "x", "pushes": [{"latent": 0, "strength": 1.0}]},
        "sae": {"id": "s", "path": "saes/s", "site": "x"},
    },
}


@pytest.mark.parametrize("path", BODIES)
def test_what_it_loads_is_allowed_here_too(tmp_path: Path, path: str) -> None:
    """Whoever has the token, or got past the API, names no model that the settings do not."""
    outside = tmp_path / "outside"
    outside.mkdir()
    home = tmp_path / "home"
    (home / "artifacts").mkdir(parents=True)
    (home / "link").symlink_to(outside)
    client = server(home, parts_token=SecretStr(TOKEN), require_keys=True)
    for name in (str(outside), str(home / "link"), "owner/name", "http://10.0.0.1/model"):
        body = {**BODIES[path], "model": {"name": name}}
        answer = client.post(path, json=body, headers=SHOWN)
        assert answer.status_code == 422, answer.text
        assert name in answer.json()["detail"]
        assert "MONOSEMY_" in answer.json()["detail"] or "never fetched" in answer.json()["detail"]
