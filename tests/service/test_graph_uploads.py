"""Graphs that are submitted and uploaded: never trusted, refused at their place, counted by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete, select

from monosemy.graphs.pruning import prune
from monosemy.interchange.attribution_graph import GraphMarks, export_graph
from service.database.graph_tables import StoredGraph
from service.database.key_tables import ApiKey
from service.database.session import transaction
from service.database.tables import Sae
from service.graphs import uploading
from tests.support.graph_files import node, smallest_file
from tests.support.graph_rows import texas
from tests.support.keys import fresh_key
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

GRAPHS = "/api/v1/graphs"
UPLOAD = f"{GRAPHS}/upload"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def emptied(module_engine: Engine) -> Iterator[None]:
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph))


def looked_at(client: TestClient, graph: str) -> None:
    """Every endpoint of a graph answers."""
    shown = client.get(f"{GRAPHS}/{graph}")
    assert shown.status_code == 200, shown.text
    nodes = client.get(f"{GRAPHS}/{graph}/nodes", params={"limit": 200})
    assert nodes.status_code == 200, nodes.text
    for end in ("in", "out"):
        for each in nodes.json()["items"][:20]:
            path = f"{GRAPHS}/{graph}/nodes/{each['node']}/edges"
            assert client.get(path, params={"end": end}).status_code == 200
    for asked in ({}, {"nodes": 0.3, "edges": 0.5}):
        assert client.get(f"{GRAPHS}/{graph}/drawing", params=asked).status_code == 200
    for form in ("attribution-graph", "npz"):
        assert client.get(f"{GRAPHS}/{graph}/file", params={"form": form}).status_code == 200


def test_one_of_circuit_tracers_is_listed_and_drawn_like_ours(client: TestClient) -> None:
    sent = client.post(UPLOAD, json=smallest_file())
    assert sent.status_code == 201, sent.text
    header = sent.json()
    assert sent.headers["location"] == f"{GRAPHS}/{header['id']}"
    assert (header["name"], header["model"], header["run"]) == ("sent", "gemma-2-2b", None)
    assert client.get(GRAPHS, params={"search": "king"}).json()["items"] == [header]
    looked_at(client, header["id"])
    shown = client.get(f"{GRAPHS}/sent").json()
    assert shown["about"]["file"]["slug"] == "sent" and shown["token_ids"] == [-1, 5]
    (feature,) = client.get(f"{GRAPHS}/sent/nodes", params={"search": "KINGS"}).json()["items"]
    assert (feature["layer"], feature["latent"], feature["label"]) == (2, 7, "kings")
    drawn = client.get(f"{GRAPHS}/sent/drawing").json()
    assert [round(each, 3) for each in drawn["flow"]] == [1.0, 0.8, 0.2]
    assert drawn["kept"]["influence"] == drawn["kept"]["of_chance"]["value"] == pytest.approx(1)
    again = client.post(UPLOAD, json=smallest_file()).json()
    assert again["name"] == "sent-2"


def test_ours_comes_back_as_it_went(client: TestClient) -> None:
    graph = prune(texas()).graph
    marks = GraphMarks((0,), (("Texas", (1, 2)),))
    document = export_graph(graph, "ours", "host", "a prompt", {0: "said"}, marks)
    made = client.post(UPLOAD, json=document).json()
    back = client.get(f"{GRAPHS}/{made['id']}/file").json()
    assert len(back["nodes"]) == len(document["nodes"])
    assert back["qParams"]["pinnedIds"] == document["qParams"]["pinnedIds"]
    assert back["qParams"]["supernodes"] == document["qParams"]["supernodes"]
    assert {each["clerp"] for each in back["nodes"]} == {
        each["clerp"] for each in document["nodes"]
    }
    ends = {(each["source"], each["target"]) for each in document["links"]}
    assert {(each["source"], each["target"]) for each in back["links"]} == ends


Change = Callable[[dict[str, Any]], Any]


def put(path: str, value: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        *above, last = path.split(".")
        place: Any = document
        for step in above:
            place = place[int(step)] if step.isdigit() else place[step]
        place[int(last) if last.isdigit() else last] = value

    return change


WRONG: list[tuple[Change, str]] = [
    (put("metadata", []), "metadata"),
    (put("metadata.scan", 3), "metadata.scan"),
    (put("metadata.scan", ""), "metadata.scan"),
    (put("metadata.scan", "x" * 1000), "metadata.scan"),
    (put("metadata.prompt", "x" * 200_000), "metadata.prompt"),
    (put("metadata.prompt_tokens", []), "metadata.prompt_tokens"),
    (put("metadata.prompt_tokens", [1]), "metadata.prompt_tokens"),
    (put("nodes", {}), "nodes"),
    (put("nodes.1", 7), "nodes.1"),
    (put("nodes.1.ctx_idx", -1), "nodes.1"),
    (put("nodes.1.ctx_idx", 2), "nodes.1"),
    (put("nodes.1.layer", "9" * 5000), "nodes.1"),
    (put("nodes.1.node_id", "2_" + "7" * 5000 + "_1"), "nodes.1"),
    (put("nodes.1.activation", "1"), "nodes.1"),
    (put("nodes.1.node_id", "4_9_1"), "nodes"),
    (put("nodes.1.feature", 10**30), "nodes.1"),
    (put("nodes.1.feature", "abc"), "nodes.1"),
    (put("nodes.3.token_prob", 7), "nodes.3"),
    (put("nodes.3.token_prob", -1), "nodes.3"),
    (put("nodes.1.ctx_idx", 0), "links.0"),
    (put("nodes.3.feature_type", "embedding"), "nodes"),
    (put("links", None), "links"),
    (put("links.2.weight", True), "links.2"),
    (put("links.2.source", ["2_7_1"]), "links.2"),
    (put("links.0.target", "E_5_1"), "links.0"),
    (put("links.0.source", "4_9_1"), "links.0"),
    (put("links.1", {"source": "E_5_1", "target": "2_7_1", "weight": 1}), "links.1"),
    (put("links.0.weight", 1e200), "links.0"),
    (put("nodes.1.activation", 1e300), "nodes.1"),
    (put("metadata.monosemy", {"ids": [0.5, 1]}), "metadata.monosemy"),
    (put("nodes.3.token_prob", 1e308), "nodes.3"),
    (put("metadata.monosemy", {"goals": [{"node": "4_9_1"}]}), "metadata.monosemy"),
    (put("metadata.monosemy", {"rows": {"2_7_1": ["a", 0, 0]}}), "metadata.monosemy"),
]
"""What is changed of a file, and the place that is named then."""


def test_what_is_wrong_is_refused_at_its_place(client: TestClient) -> None:
    for change, path in WRONG:
        document = smallest_file()
        change(document)
        answer = client.post(UPLOAD, json=document)
        assert answer.status_code == 422, answer.text
        assert [each["path"] for each in answer.json()["errors"]] == [path], answer.text
    assert client.get(GRAPHS).json()["items"] == []


def test_links_in_a_circle_are_refused(client: TestClient) -> None:
    document = smallest_file()
    document["nodes"].append(node("2_8_1", "cross layer transcoder", "2", 1))
    document["links"] += [
        {"source": "2_8_1", "target": "2_7_1", "weight": 1.0},
        {"source": "2_7_1", "target": "2_8_1", "weight": 1.0},
    ]
    answer = client.post(UPLOAD, json=document)
    assert answer.status_code == 422 and answer.json()["errors"][0]["path"] == "links"


def test_what_is_no_file_is_refused(client: TestClient) -> None:
    for body, words in (
        (b"", "not JSON"),
        (b"[1]", "JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"metadata": {"scan": ' + b"9" * 5000 + b"}}", "not JSON"),
    ):
        answer = client.post(UPLOAD, content=body, headers=JSON)
        assert answer.status_code == 422 and words in answer.text, answer.text


def test_another_sort_of_body_and_one_too_large(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = client.post(UPLOAD, files={"files": ("g.json", b"{}")})
    assert sent.status_code == 415 and "application/json" in sent.json()["detail"]
    settings = client.app.state.context.settings  # type: ignore[attr-defined]
    monkeypatch.setitem(settings.__dict__, "graph_max_bytes", 100)
    assert client.post(UPLOAD, json=smallest_file()).status_code == 413


ODD: list[Change] = [
    put("metadata.monosemy", {"about": {"pruning": [1], "deep": [[["x"]]]}}),
    put("metadata.monosemy", {"layers": 10**9, "goals": [{"node": "no"}, 3], "ids": 7}),
    put("metadata.slug", "../\x00" + "a" * 500),
    put("metadata.prompt", "nul \x00 and half \ud800"),
    put("metadata.prompt_tokens.1", "\x00\ud800"),
    put("nodes.1.clerp", "<script>" * 500),
    put("nodes.2.node_id", "2_7_1"),
    put("nodes.0.node_id", "E_" + "5" * 5000 + "_1"),
    put("nodes.3.token_prob", 0),
    put("nodes.1.feature_type", "foo"),
    put("nodes.1.node_id", "2_c99999999999_7_1"),
    put("links", []),
    put("links.2.source", "nobody"),
    put("qParams", {"pinnedIds": [3, "2_7_1"], "supernodes": [7, ["a", "2_7_1", 9]]}),
]


@pytest.mark.parametrize(
    ("slug", "name", "why"),
    [
        ("latest", "the king", "'latest' is no name here ('latest' is a word with a meaning"),
        ("x" * 5000, "the king", f"{'x' * 60!r}... is no name here (a name has at most 120"),
        ("a\u202eb", "the king", "'a\\u202eb' is no name here (a name has no control"),
        ("<b>../../x", "the king", "is no name here (a name has none of"),
        ("e\u0301", "\u00e9", "is not in Unicode's composed form"),
        ("sent", "sent-2", "'sent' is another graph's name"),
    ],
)
def test_a_slug_that_cannot_be_its_name_is_told(
    client: TestClient, slug: str, name: str, why: str
) -> None:
    assert client.post(UPLOAD, json=smallest_file()).json()["name"] == "sent"
    assert client.get(f"{GRAPHS}/sent").json()["notes"] == []
    document = smallest_file()
    document["metadata"]["slug"] = slug
    made = client.post(UPLOAD, json=document).json()
    (note,) = client.get(f"{GRAPHS}/{made['id']}").json()["notes"]
    assert made["name"] == name and why in note
    assert note.endswith(f": the graph is called {name!r}.")


def test_odd_files_are_read_and_every_endpoint_answers(client: TestClient) -> None:
    for change in ODD:
        document = smallest_file()
        change(document)
        answer = client.post(UPLOAD, content=json.dumps(document), headers=JSON)
        assert answer.status_code == 201, answer.text
        looked_at(client, answer.json()["id"])


def test_nodes_of_one_place_have_ids_of_their_own(client: TestClient) -> None:
    document = smallest_file()
    document["nodes"] += [
        node("odd", "bias", "E", 0),
        node("odder", "bias", "E", 0),
        node("first", "cross layer transcoder", "2", 1, feature=52),
    ]
    document["metadata"]["schema_version"] = 1
    made = client.post(UPLOAD, json=document).json()
    sent = client.get(f"{GRAPHS}/{made['id']}/file").json()
    ids = [each["node_id"] for each in sent["nodes"]]
    assert len(set(ids)) == len(ids) == 7
    assert client.post(UPLOAD, json=sent).status_code == 201


def test_a_key_may_send_so_many(module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        fresh_key(session, "sender", ["run"], "a-secret-of-thirty-two-characters")
        key = session.scalars(select(ApiKey.id).where(ApiKey.name == "sender")).one()
    body = json.dumps(smallest_file()).encode()

    def send(quota: uploading.Quota) -> None:
        with transaction(module_engine) as session:
            uploading.keep_uploaded(session, uploading.graph_of_file(body), key, quota)

    send(uploading.Quota(count=1))
    for quota in (uploading.Quota(count=1), uploading.Quota(total_bytes=10)):
        with pytest.raises(uploading.Conflict, match="may not send more"):
            send(quota)
    send(uploading.Quota(count=2))


# ------------------------------------------------------------------ runs
def test_a_run_is_submitted_as_under_runs(client: TestClient, library: Library) -> None:
    sent = {"prompt": "the king", "saes": [library.name]}
    made = client.post(GRAPHS, json=sent)
    assert made.status_code == 201, made.text
    assert made.json()["kind"] == "graph" and made.json()["state"] == "queued"
    assert made.headers["location"].endswith(made.json()["id"])
    with_kind = client.post(GRAPHS, json={"kind": "graph", **sent})
    assert with_kind.json()["spec"] == made.json()["spec"]
    for each in (made, with_kind):
        client.post(f"/api/v1/runs/{each.json()['id']}/cancel")


SPECS: list[tuple[dict[str, Any], str]] = [
    ({"kind": "train"}, ""),
    ({"prompt": ""}, "prompt"),
    ({"prompt": 3}, "prompt"),
    ({"saes": []}, ""),
    ({"set": "tc"}, ""),
    ({"saes": None, "set": "tc"}, "set"),
    ({"saes": ["nobody"]}, "saes.0"),
    ({"saes": ["demo", "demo"]}, ""),
    ({"goals": {"of": "everything"}}, "goals"),
    ({"goals": {"of": "tokens", "tokens": [True]}}, "goals"),
    ({"goals": {"of": "direction", "vector": [], "site": "blocks.1.hook_resid_pre"}}, "goals"),
    ({"trace": {"row_mass": 0}}, "trace.row_mass"),
    ({"trace": {"batch": 10**6}}, "trace.batch"),
    ({"pruning": {"nodes": 2}}, "pruning.nodes"),
    ({"check": {"nodes": -1}}, "check.nodes"),
    ({"name": "a/b"}, "name"),
    ({"whole_tokens": 99}, "whole_tokens"),
]


def test_specs_that_are_none_are_refused_at_their_field(
    client: TestClient, library: Library
) -> None:
    for changes, path in SPECS:
        spec = {"prompt": "the king", "saes": [library.name], **changes}
        spec = {name: value for name, value in spec.items() if value is not None}
        answer = client.post(GRAPHS, json=spec)
        assert answer.status_code == 422, answer.text
        assert all(each["path"].startswith(path) for each in answer.json()["errors"]), answer.text
    for body in (b"[]", b"3", b'"a"', b"{", b""):
        assert client.post(GRAPHS, content=body, headers=JSON).status_code == 422


def test_an_sae_of_a_set_that_a_run_names_is_not_deleted(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        kept, sae.config = sae.config, {**sae.config, "set": {"name": "s", "place": 0, "size": 1}}
    run = client.post(GRAPHS, json={"prompt": "the king", "set": "s"})
    assert run.status_code == 201, run.text
    refused = client.delete(f"/api/v1/saes/{library.name}")
    assert refused.status_code == 409 and "graph run" in refused.json()["detail"]
    client.post(f"/api/v1/runs/{run.json()['id']}/cancel")
    with transaction(module_engine) as session:
        session.get_one(Sae, library.sae).config = kept
