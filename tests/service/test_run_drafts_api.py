"""Specs that are being written: kinds and their forms, texts that are read, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from sqlalchemy import Engine, func, select

from monosemy.client import Client
from monosemy.specs import KINDS, parse_spec
from monosemy.specs.parse import read_spec, write_spec
from service.app import create_app
from service.database.session import transaction
from service.database.tables import Run
from service.settings import Settings
from tests.support.library_rows import Library
from tests.support.served import served

pytestmark = pytest.mark.integration

API = "/api/v1/runs"


def parsed(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post(f"{API}/parse", json=body)
    assert answer.status_code == 200, answer.text
    reading: dict[str, Any] = answer.json()
    return reading


def test_every_kind_is_listed_with_its_form(client: TestClient) -> None:
    items = client.get(f"{API}/kinds").json()["items"]
    assert [each["kind"] for each in items] == list(KINDS)
    for each in items:
        kind = client.get(f"{API}/kinds/{each['kind']}").json()
        assert kind["json_schema"] == KINDS[each["kind"]].model_json_schema()
        assert kind["description"] and kind["queue"] == KINDS[each["kind"]].queue
    missing = client.get(f"{API}/kinds/trian")
    assert missing.status_code == 404 and "train" in missing.json()["detail"]


def test_a_text_becomes_an_object_and_an_object_a_text(client: TestClient) -> None:
    text = "kind: train  # the first\nname: mine\nsae: {d_sae: 64, k: 4}\n"
    reading = parsed(client, text=text)
    assert reading["spec"] == {"kind": "train", "name": "mine", "sae": {"d_sae": 64, "k": 4}}
    assert reading["yaml"] == text and reading["errors"] == [] and reading["queue"] == "gpu"
    back = parsed(client, spec=reading["spec"])
    assert yaml.safe_load(back["yaml"]) == reading["spec"] and back["spec"] == reading["spec"]
    assert list(yaml.safe_load(back["yaml"])) == ["kind", "name", "sae"]
    assert parsed(client, text='{"kind": "train"}')["spec"] == {"kind": "train"}


def test_a_reading_says_all_that_a_submission_would(
    client: TestClient, library: Library, engine: Engine
) -> None:
    specs: list[Any] = [
        {"kind": "train", "training": {"token": 5, "batch_tokens": -1}},
        {"kind": "trian"},
        {"kind": "explain", "sae": "nobody"},
        {"kind": "compare", "sae": "demo", "other": str(library.sae)},
        {"kind": "train", "training": {"tokens": 10**14}},
        {"kind": "import", "source": "upload:00000000-0000-0000-0000-000000000000"},
        {"kind": "train", "text": {"source": "https://elsewhere.test/x"}},
    ]
    for spec in specs:
        reading = parsed(client, spec=spec)
        refused = client.post(API, json=spec)
        assert refused.status_code == 422
        faults = {(each["path"], each["message"]) for each in reading["errors"]}
        assert {(each["path"], each["message"]) for each in refused.json()["errors"]} <= faults
        assert reading["queue"] is None and reading["spec"] == spec
    with transaction(engine) as session:
        assert session.scalar(select(func.count()).select_from(Run)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "line 1"),
        ("a: &x [1]\nb: [*x, *x]", "line 2, column 5: anchors and aliases"),
        ("- 1\n- 2", "a mapping"),
        ("", "a mapping"),
        ("kind: train\nwhen: 2026-01-01", "not JSON serializable"),
        ("a: .inf", "not JSON"),
        ("a: !!python/object:os.system x", "line 1"),
        ("a: " + "9" * 5000, ""),
        ("[" * 3000, "nested"),
        ("? {a: 1}\n: 2", "line 1"),
    ],
)
def test_what_is_no_spec_is_said_and_not_tried(client: TestClient, text: str, message: str) -> None:
    reading = parsed(client, text=text)
    assert reading["spec"] is None and reading["yaml"] == text
    assert message in reading["errors"][0]["message"]


def test_drafts_that_are_none(client: TestClient) -> None:
    for body in ({}, {"text": "a: 1", "spec": {}}, {"text": "x" * 100_001}, {"spec": []}):
        assert client.post(f"{API}/parse", json=body).status_code == 422
    headers = {"Content-Type": "application/json"}
    for body in ('{"spec": {"kind": "\\ud800"}}', '{"text": "kind: \\ud800"}'):
        answer = client.post(f"{API}/parse", content=body, headers=headers)
        assert answer.status_code in (200, 422) and answer.json()["errors"]
    deep = '{"spec": {"a": ' + "[" * 400 + "]" * 400 + "}}"
    answer = client.post(f"{API}/parse", content=deep, headers=headers)
    assert answer.status_code in (200, 422)


def test_the_client_reads_kinds_and_specs(settings: Settings) -> None:
    with served(create_app(settings)) as address, Client(address) as service:
        assert [each.kind for each in service.runs.kinds()] == list(KINDS)
        assert service.runs.kind("train").json_schema["properties"]["kind"]["const"] == "train"
        assert service.runs.parse("kind: train").queue == "gpu"
        assert service.runs.parse({"kind": "trian"}).errors[0].path == "kind"
        assert service.runs.parse(parse_spec({"kind": "train"})).errors == []


@pytest.mark.parametrize("kind", ["train", "sweep", "import", "pipeline"])
def test_a_whole_spec_survives_the_way_through_yaml(kind: str) -> None:
    given = {"kind": kind, **({"source": "hub:a/b"} if kind == "import" else {})}
    dump = parse_spec(given).model_dump(mode="json")
    assert read_spec(write_spec(dump)) == dump
