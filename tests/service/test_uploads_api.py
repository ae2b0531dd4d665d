"""Uploads of SAEs: received, checked, named by imports, and removed again."""

from __future__ import annotations

import os
import time
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine

from monosemy.errors import DataError
from monosemy.specs import parse_spec
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.runs.lifecycle import create_run
from service.settings import Settings
from service.uploads import store
from tests.support.hostile import CONFIG, SOUND, safetensors, tarred, zipped
from tests.support.keys import fresh_key

pytestmark = pytest.mark.integration

UPLOADS = "/api/v1/saes/uploads"
FILES = {"cfg.json": CONFIG, "sae_weights.safetensors": safetensors()}


def send(client: TestClient, files: dict[str, bytes]) -> Any:
    return client.post(UPLOADS, files=[("files", (name, data)) for name, data in files.items()])


def folder_of(settings: Settings) -> Path:
    return settings.artifacts / "uploads"


@pytest.mark.parametrize(
    "sent",
    [
        {"sae.zip": zipped(SOUND)},
        {"sae.tar.gz": tarred(SOUND)},
        {"sae.tgz": tarred(SOUND)},
        {"sae.tar": tarred(SOUND, packed=False)},
        SOUND,
    ],
)
def test_what_is_sent_lies_there_unchanged(
    client: TestClient, settings: Settings, sent: dict[str, bytes]
) -> None:
    answer = send(client, sent)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert {each["name"]: each["bytes"] for each in body["files"]} == {
        name: len(data) for name, data in SOUND.items()
    }
    assert body["bytes"] == sum(map(len, SOUND.values()))
    assert answer.headers["location"] == f"{UPLOADS}/{body['id']}"
    assert [path.name for path in folder_of(settings).iterdir()] == [body["id"]]
    for name, data in SOUND.items():
        assert (folder_of(settings) / body["id"] / name).read_bytes() == data


@pytest.mark.parametrize("packed", [True, False])
def test_what_our_own_folders_have_besides_is_taken_and_not_kept(
    client: TestClient, settings: Settings, packed: bool
) -> None:
    own = {
        **FILES,
        "readings.jsonl": b'{"step": 1}\n',
        "training.html": b"<script>alert(1)</script>",
        "baseline/cfg.json": CONFIG,
    }
    answer = send(client, {"o.tar": tarred(own, packed=False)} if packed else own)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert {each["name"] for each in body["files"]} == {*FILES, "baseline/cfg.json"}
    kept = [path.name for path in (folder_of(settings) / body["id"]).rglob("*") if path.is_file()]
    assert sorted(kept) == sorted(["cfg.json", "cfg.json", "sae_weights.safetensors"])
    nothing = send(client, {"a.jsonl": b"{}"})
    assert nothing.status_code == 422 and "no .safetensors" in nothing.text


BAD = [
    ({}, 415, "multipart"),
    ({"a.zip": b"not a zip"}, 422, "damaged"),
    ({"a.zip": zipped({"../../evil.json": b"{}"})}, 422, "plain relative path"),
    ({"a.zip": zipped(FILES, mode=0o120777)}, 422, "a link"),
    ({"ae.pt": b"", **FILES}, 422, "never read"),
    ({"../cfg.json": b"{}"}, 422, "plain relative path"),
    ({"/etc/cfg.json": b"{}"}, 422, "plain relative path"),
    ({"a.exe": b""}, 422, "only .json"),
    ({"": b"x"}, 422, "no file"),
    ({"sae.zip": zipped(FILES), **FILES}, 422, "sent alone"),
    ({"cfg.json": CONFIG}, 422, "no SAE"),
    ({"cfg.json": b"{", "w.safetensors": safetensors()}, 422, "no usable JSON"),
    ({"cfg.json": b"[" * 100_000, "w.safetensors": safetensors()}, 422, "nested"),
    ({"cfg.json": CONFIG, "w.safetensors": b"junk"}, 422, "no safetensors"),
    ({"cfg.json": CONFIG, "CFG.json": CONFIG}, 422, "occurs twice"),
    ({f"{number}.txt": b"" for number in range(257)}, 422, "more than 256"),
]


@pytest.mark.parametrize(("sent", "status", "message"), BAD)
def test_bad_uploads_leave_nothing(
    client: TestClient, settings: Settings, sent: dict[str, bytes], status: int, message: str
) -> None:
    answer = send(client, sent)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert message in answer.json()["detail"]
    assert not list(folder_of(settings).iterdir())


BOUNDARY = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", BOUNDARY, 422),
        (b"x", "", 415),
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 415),
        (b"x", "multipart/form-data; boundary=", 415),
        (b"x", "multipart/form-data; boundary=" + "b" * 300, 415),
        (b"x", "multipart/mixed; boundary=b", 415),
        (b"nonsense", BOUNDARY, 422),
        (b"--b\r\n", BOUNDARY, 422),
        (b"--b--\r\n", BOUNDARY, 422),
        (b"--b\r\n\r\nno headers\r\n--b--\r\n", BOUNDARY, 422),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nv\r\n--b--\r\n', BOUNDARY, 422),
        (
            b'--b\r\nContent-Disposition: form-data; filename="\xff.json"\r\n\r\nv\r\n--b--\r\n',
            BOUNDARY,
            422,
        ),
        (
            b'--b\r\nContent-Disposition: form-data; filename="a\0.json"\r\n\r\nv\r\n--b--\r\n',
            BOUNDARY,
            422,
        ),
        (b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\n", BOUNDARY, 422),
        (b"--b\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", BOUNDARY, 422),
        (
            b'--b\r\nContent-Disposition: form-data; filename="a.json"\r\n\r\n{}\r\n',
            BOUNDARY,
            422,
        ),
    ],
)
def test_malformed_bodies(
    client: TestClient, settings: Settings, content: bytes, kind: str, status: int
) -> None:
    answer = client.post(UPLOADS, content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert not list(folder_of(settings).iterdir())


@pytest.fixture
def small(settings: Settings, inference: Any) -> Iterator[TestClient]:
    limited = settings.model_copy(
        update={"upload_max_bytes": 20_000, "upload_max_unpacked_bytes": 50_000}
    )
    with TestClient(
        create_app(limited, inference.transport()),
        base_url="http://127.0.0.1:8420",
        client=("127.0.0.1", 50000),
    ) as client:
        yield client


def test_limits(small: TestClient, settings: Settings) -> None:
    boundary = {"Content-Type": BOUNDARY}

    def undeclared() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; filename="a.txt"\r\n\r\n'
        for _ in range(30):
            yield b"x" * 1000

    assert send(small, {"a.txt": os.urandom(30_000)}).status_code == 413
    assert small.post(UPLOADS, content=undeclared(), headers=boundary).status_code == 413
    answer = send(small, {"a.zip": zipped({"a.txt": b"x" * 60_000})})
    assert answer.status_code == 422
    assert "more than 50000 bytes" in answer.json()["detail"]
    assert not list(folder_of(settings).iterdir())
    # Other addresses keep the smaller limit of theirs.
    assert small.post("/api/v1/runs", content=b"x" * 3_000_000).status_code == 413


def test_a_large_upload_is_never_whole_in_memory(client: TestClient, settings: Settings) -> None:
    size = 64 * 2**20
    header = b'{"W":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    piece = os.urandom(2**20)

    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; filename="w.safetensors"\r\n\r\n'
        yield len(header).to_bytes(8, "little") + header
        for _ in range(64):
            yield piece
        yield b"\r\n--b--\r\n"

    from service.uploads.receive import Receiver

    incoming = settings.artifacts / "in"
    incoming.mkdir(parents=True)
    receiver = Receiver(BOUNDARY, incoming, 64)
    tracemalloc.start()
    for chunk in body():
        receiver.feed(chunk)
    files = receiver.finish()
    upload = store.finish(
        Workspace(settings.artifacts), uuid.uuid4(), incoming, files, store.Limits()
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert upload == {"w.safetensors": size + 8 + len(header)}
    assert peak < 8 * 2**20


def test_an_import_names_an_upload_that_is_there(client: TestClient, settings: Settings) -> None:
    upload = send(client, SOUND).json()
    folder = folder_of(settings) / upload["id"]
    os.utime(folder, (1, 1))
    spec = {"kind": "import", "source": upload["source"], "site": "blocks.1.hook_resid_post"}
    assert client.post("/api/v1/runs", json=spec).status_code == 201
    assert time.time() - folder.stat().st_mtime < 60  # its time began anew
    inside = {**spec, "source": f"{upload['source']}:sae"}
    assert client.post("/api/v1/runs", json=inside).status_code == 201
    for source in (
        "upload:",
        "upload:../../etc",
        f"upload:{uuid.uuid4()}",
        f"{upload['source']}:../x",
        f"{upload['source']}:nothing",
    ):
        answer = client.post("/api/v1/runs", json={**spec, "source": source})
        assert answer.status_code == 422, source
        assert answer.json()["errors"][0]["path"] == "source"


def test_the_worker_finds_the_folder(client: TestClient, settings: Settings) -> None:
    workspace = Workspace(settings.artifacts)
    upload = send(client, {name: data for name, data in SOUND.items() if "/" in name}).json()
    assert store.locate(workspace, upload["source"]) == folder_of(settings) / upload["id"] / "sae"
    assert store.locate(workspace, "/some/folder") is None
    with pytest.raises(DataError, match="There is no upload"):
        store.locate(workspace, f"upload:{uuid.uuid4()}")


def test_delete(client: TestClient, settings: Settings) -> None:
    upload = send(client, SOUND).json()
    assert client.delete(f"{UPLOADS}/{upload['id']}").status_code == 204
    assert client.delete(f"{UPLOADS}/{upload['id']}").status_code == 404
    assert client.delete(f"{UPLOADS}/nonsense").status_code == 422
    assert not list(folder_of(settings).iterdir())


def test_stale_uploads_go_unless_an_import_waits_for_them(
    client: TestClient, settings: Settings, engine: Engine
) -> None:
    wanted, stale, fresh, done = (send(client, SOUND).json() for _ in range(4))
    with transaction(engine) as session:
        create_run(session, parse_spec({"kind": "import", "source": f"{wanted['source']}:sae"}))
        ended = create_run(session, parse_spec({"kind": "import", "source": done["source"]}))
        session.flush()
        session.get_one(Run, ended.id).state = "succeeded"
    broken = folder_of(settings) / "incoming-broken-off"
    broken.mkdir()
    old = time.time() - 25 * 3600
    for name in (wanted["id"], stale["id"], done["id"], broken.name):
        os.utime(folder_of(settings) / name, (old, old))
    with transaction(engine) as session:
        removed = store.remove_stale(session, Workspace(settings.artifacts), 24)
    assert removed == 3
    left = {path.name for path in folder_of(settings).iterdir()}
    assert left == {wanted["id"], fresh["id"]}


def test_uploads_that_wait_are_limited_in_number(client: TestClient, settings: Settings) -> None:
    for _ in range(store.MOST_PENDING):
        assert send(client, FILES).status_code == 201
    answer = send(client, FILES)
    assert answer.status_code == 409
    assert "Import or delete" in answer.json()["detail"]
    first = next(folder_of(settings).iterdir())
    os.utime(first, (1, 1))
    assert send(client, FILES).status_code == 201  # the next one sweeps first


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("model.name", {"kind": "train", "model": {"name": "https://evil.example/model"}}),
        ("model.name", {"kind": "train", "model": {"name": "file:///etc/passwd"}}),
        ("model.name", {"kind": "train", "model": {"name": "//evil.example/model"}}),
        ("text.source", {"kind": "train", "text": {"source": "http://169.254.169.254/x.jsonl"}}),
        ("text.source", {"kind": "pipeline", "text": {"source": "s3://bucket/x.parquet"}}),
        ("text.source", {"kind": "sweep", "text": {"source": "HTTP://x/y"}}),
        ("source", {"kind": "import", "source": "https://evil.example/sae.zip"}),
        ("source", {"kind": "import", "source": "hub:https://evil.example/x"}),
        ("source", {"kind": "import", "source": "hub:owner/name:../x"}),
    ],
)
def test_addresses_are_never_fetched(client: TestClient, path: str, spec: dict[str, Any]) -> None:
    answer = client.post("/api/v1/runs", json=spec)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["path"] == path


def test_the_hub_is_asked_for_what_the_server_allows(settings: Settings, inference: Any) -> None:
    limited = settings.model_copy(update={"hub": "owner/*, gpt2"})
    specs = {
        "hub:owner/name@main:layer": 201,
        "hub:other/name": 422,
        "release/sae": 422,
        "owner/name/sae": 201,
        "/a/folder": 201,
    }
    app = create_app(limited, inference.transport())
    with TestClient(app, base_url="http://127.0.0.1:8420", client=("127.0.0.1", 5)) as client:
        for source, status in specs.items():
            spec = {"kind": "import", "source": source}
            answer = client.post("/api/v1/runs", json=spec)
            assert answer.status_code == status, source
            if status == 422:
                assert "MONOSEMY_HUB" in answer.json()["detail"]
        for name, status in {"gpt2": 201, "other/model": 422, "./folder": 201}.items():
            spec = {"kind": "train", "model": {"name": name}}
            assert client.post("/api/v1/runs", json=spec).status_code == status, name


def test_nothing_is_read_of_those_who_may_not(
    settings: Settings, inference: Any, engine: Engine
) -> None:
    """The key is looked at before the body."""
    secret = "a-secret-of-thirty-two-characters"
    locked = settings.model_copy(update={"require_keys": True, "secret": SecretStr(secret)})
    with transaction(engine) as session:
        reader = fresh_key(session, "reader", ["read"], secret)
        runner = fresh_key(session, "runner", ["run"], secret)
    with TestClient(create_app(locked, inference.transport())) as client:
        for key, status in ((None, 401), (reader, 403), (runner, 422)):
            headers = {"Content-Type": BOUNDARY, **({"X-API-Key": key} if key else {})}
            answer = client.post(UPLOADS, content=b"--b--\r\n", headers=headers)
            assert answer.status_code == status, answer.text
            assert client.delete(f"{UPLOADS}/{uuid.uuid4()}", headers=headers).status_code == (
                404 if key == runner else status
            )
            assert (settings.artifacts / "uploads").exists() == (key == runner)


def test_a_disk_that_cannot_be_written_is_told(client: TestClient, settings: Settings) -> None:
    settings.artifacts.mkdir(parents=True)
    (settings.artifacts / "uploads").write_text("in the way")
    answer = send(client, FILES)
    assert answer.status_code == 503
    assert "cannot be written" in answer.json()["detail"]
    assert answer.headers["retry-after"]


def test_each_key_has_a_quota_of_its_own(settings: Settings, engine: Engine) -> None:
    secret = "a-secret-of-thirty-two-characters"
    size = sum(map(len, FILES.values()))
    changes = {
        **{"require_keys": True, "secret": SecretStr(secret)},
        **{"upload_key_count": 3, "upload_key_bytes": 2 * size + 1},
    }
    app = create_app(settings.model_copy(update=changes))
    with transaction(engine) as session:
        first, second = (
            {"X-API-Key": fresh_key(session, name, ["run"], secret)} for name in ("one", "two")
        )
    with TestClient(app, base_url="http://127.0.0.1") as client:

        def sent(key: dict[str, str], files: dict[str, bytes] = FILES) -> Any:
            parts = [("files", (name, data)) for name, data in files.items()]
            return client.post(UPLOADS, files=parts, headers=key)

        kept = [sent(first) for _ in range(2)]
        assert [each.status_code for each in kept] == [201, 201]
        over = sent(first)
        assert over.status_code == 409 and "bytes" in over.json()["detail"]
        assert sent(second).status_code == 201
        # What was refused is forgotten; what is deleted makes room.
        assert client.delete(kept[0].headers["location"], headers=first).status_code == 204
        assert sent(first).status_code == 201
        app.state.context.settings.__dict__.update(upload_key_count=2, upload_key_bytes=10**9)
        over = sent(first)
        assert over.status_code == 409 and "2 uploads of this key" in over.json()["detail"]
    assert len(list(folder_of(settings).iterdir())) == 3
