"""ETags and compression: the same answer, less of it."""

from __future__ import annotations

import json

import pytest
import zstandard
from fastapi.testclient import TestClient

from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

PAGE = "/api/v1/saes/demo/features/9"


def test_who_has_it_already_is_told_so(client: TestClient, library: Library) -> None:
    first = client.get(PAGE)
    tag = first.headers["etag"]
    assert first.status_code == 200 and first.headers["cache-control"] == "private, no-cache"
    for wanted in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = client.get(PAGE, headers={"If-None-Match": wanted})
        assert again.status_code == 304 and again.content == b""
        assert again.headers["etag"] == tag
        assert "content-type" not in again.headers and again.headers["x-request-id"]
    assert client.get(PAGE, headers={"If-None-Match": '"other"'}).json() == first.json()


def test_a_change_changes_the_tag(client: TestClient, library: Library) -> None:
    listing = f"{PAGE}/explanations"
    before = client.get(listing).headers["etag"]
    client.post(listing, json={"text": "Something new is said of it."})
    after = client.get(listing, headers={"If-None-Match": before})
    assert after.status_code == 200 and after.headers["etag"] != before


def test_errors_writes_and_streams_have_none(client: TestClient, library: Library) -> None:
    assert "etag" not in client.get("/api/v1/saes/nobody").headers
    run = client.post("/api/v1/runs", json={"kind": "train"})
    assert "etag" not in run.headers
    client.post(f"/api/v1/runs/{run.json()['id']}/cancel")
    events = client.get(f"/api/v1/runs/{run.json()['id']}/events")
    assert "etag" not in events.headers and "content-encoding" not in events.headers


def test_long_answers_are_compressed_where_that_is_understood(
    client: TestClient, library: Library
) -> None:
    plain = client.get(PAGE, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    for understood, chosen in (("gzip", "gzip"), ("zstd", "zstd"), ("gzip, br, zstd", "zstd")):
        packed = client.get(PAGE, headers={"Accept-Encoding": understood})
        assert packed.headers["content-encoding"] == chosen
        if chosen == "gzip":  # which the client undoes by itself
            body = packed.json()
        else:
            body = json.loads(
                zstandard.ZstdDecompressor().decompressobj().decompress(packed.content)
            )
        assert body == plain.json() and packed.headers["etag"] == plain.headers["etag"]
        assert int(packed.headers["content-length"]) < len(plain.content)
    assert "content-encoding" not in client.get("/healthz").headers, "short ones are not"
