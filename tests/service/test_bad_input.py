"""Whatever is sent, the answer is a problem with a 4xx status, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

RUNS = "/api/v1/runs"
FEATURES = "/api/v1/saes/demo/features"
ACTIVATIONS = "/api/v1/inference/activations"

BAD_SPECS: list[tuple[Any, str, str]] = [
    ([], "", "a run spec is a mapping"),
    ("train", "", "a run spec is a mapping"),
    (None, "", ""),
    ({}, "kind", "not a kind of run"),
    ({"kind": "trian"}, "kind", "did you mean 'train'?"),
    ({"kind": 7}, "kind", "known: train"),
    ({"kind": "train", "trainig": {}}, "trainig", "did you mean 'training'?"),
    (
        {"kind": "train", "training": {"token": 5}},
        "training.token",
        "unknown key; did you mean 'tokens'?",
    ),
    ({"kind": "pipeline", "sae": {"dsae": 4}}, "sae.dsae", "did you mean 'd_sae'?"),
    ({"kind": "train", "training": {"tokens": 0}}, "training.tokens", "greater than"),
    ({"kind": "train", "training": {"tokens": "many"}}, "training.tokens", "a whole number"),
    ({"kind": "train", "sae": {"k": 1e308}}, "sae.k", "the number 1e+308 is too large"),
    ({"kind": "train", "model": {"name": ""}}, "model.name", "at least 1 character"),
    ({"kind": "train", "model": {"name": "  "}}, "model.name", "blank"),
    ({"kind": "train", "text": {"source": " "}}, "text.source", "blank"),
    ({"kind": "import", "source": " "}, "source", "blank"),
    ({"kind": "train", "training": {"tokens": True}}, "training.tokens", "a number is expected"),
    *(
        (
            {"kind": "train", "training": {"cache_activations": value}},
            "training.cache_activations",
            "true or false",
        )
        for value in (0, 0.0, 1, "no", "false", [0])
    ),
    ({"kind": "train", "training": 3}, "training", ""),
    ({"kind": "train", "sae": {"k": 10, "d_sae": 5}}, "sae", "larger than d_sae"),
    ({"kind": "train", "site": "blocks.x"}, "site", ""),
    ({"kind": "train", "name": "x" * 121}, "name", ""),
    ({"kind": "index"}, "sae", ""),
    ({"kind": "index", "sae": ""}, "sae", ""),
    ({"kind": "index", "sae": "nothing"}, "sae", "no SAE 'nothing'"),
    ({"kind": "explain", "sae": "demo", "explanation": {"features": {"indices": []}}}, "", ""),
]


def assert_problem(answer: Any, status: int | None = None) -> dict[str, Any]:
    assert 400 <= answer.status_code < 500, answer.text
    if status is not None:
        assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"].startswith("urn:monosemy:problem:")
    assert body["status"] == answer.status_code
    assert body["title"]
    assert body["detail"]
    assert body["instance"] == answer.request.url.path
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize(("spec", "path", "message"), BAD_SPECS)
def test_specs(client: TestClient, library: Library, spec: Any, path: str, message: str) -> None:
    body = assert_problem(client.post(RUNS, json=spec), 422)
    assert any(error["path"].startswith(path) for error in body["errors"])
    assert message in json.dumps([error["message"] for error in body["errors"]]).replace('\\"', '"')


def test_every_fault_of_a_spec_is_named_at_once(client: TestClient) -> None:
    spec = {"kind": "train", "training": {"tokens": 0, "seeds": 1}, "sitte": "x"}
    body = assert_problem(client.post(RUNS, json=spec), 422)
    assert {error["path"] for error in body["errors"]} == {
        "training.tokens",
        "training.seeds",
        "sitte",
    }


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"kind": "train"}', "text/plain"),
        (b'{"kind": "train"}', "application/x-www-form-urlencoded"),
        (b'{"kind": "train", "name": "a\\u0000b"}', "application/json"),
        (b'{"kind": "train", "name": "\\ud800"}', "application/json"),
        (b'{"kind": "train", "training": {"learning_rate": NaN}}', "application/json"),
        (b'{"kind": "train", "training": {"learning_rate": Infinity}}', "application/json"),
        (b'{"kind": "train", "training": {"tokens": 1' + b"0" * 5000 + b"}}", "application/json"),
        (b"[" * 100_000, "application/json"),
    ],
)
def test_bodies(client: TestClient, content: bytes, kind: str) -> None:
    assert_problem(client.post(RUNS, content=content, headers={"Content-Type": kind}), 422)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"kind": "tr\xff"}', "the body is not JSON: byte 0xff at 12 is not UTF-8"),
        (b'{"kind": "\xe9t\xe9"}', "the body is not JSON: byte 0xe9 at 10 is not UTF-8"),
        (b"[" * 100_000, "the body is not JSON: it is nested too deeply"),
        (b'{"kind": 1' + b"0" * 5000 + b"}", "a number of too many digits"),
        (b'{"kind": }', "the body is not JSON: Expecting value"),
    ],
)
@pytest.mark.parametrize("method", ["post", "patch", "put"])
def test_a_body_that_is_no_json_is_told_why(
    client: TestClient, content: bytes, message: str, method: str
) -> None:
    url = {
        "post": RUNS,
        "patch": "/api/v1/queues/gpu",
        "put": f"/api/v1/explanations/{'0' * 32}/vote",
    }[method]
    headers = {"Content-Type": "application/json"}
    answer = client.request(method, url, content=content, headers=headers)
    body = assert_problem(answer, 422)
    assert message in body["errors"][0]["message"] and body["errors"][0]["path"] == ""


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("put", "/api/v1/explanations/{id}/vote", {"value": 1}),
        ("post", "/api/v1/lists", {"name": "x"}),
        ("patch", "/api/v1/lists/x", {"name": "x"}),
        ("post", "/api/v1/lists/x/entries", {"entries": [{"sae": "demo", "feature": 1}]}),
        ("post", "/api/v1/lists/x/entries/move", {"entries": [{"sae": "demo", "feature": 1}],
                                                  "to": 0}),
        ("post", "/api/v1/lists/x/entries/remove", {"entries": [{"sae": "demo", "feature": 1}]}),
        ("post", "/api/v1/saes/demo/features/1/tags", {"tags": ["x"]}),
        ("patch", "/api/v1/queues/gpu", {"paused": False}),
        ("patch", "/api/v1/runs/{id}", {"priority": 0}),
        ("post", "/api/v1/keys", {"name": "x"}),
    ],
)  # fmt: skip
def test_an_unknown_field_is_refused_wherever_it_stands(
    client: TestClient, library: Library, method: str, url: str, body: Any
) -> None:
    url = url.replace("{id}", "0" * 32)
    problem = assert_problem(client.request(method, url, json={**body, "extra": 1}), 422)
    assert [each["path"] for each in problem["errors"]] == ["extra"]
    for name, value in body.items():
        if isinstance(value, list) and isinstance(value[0], dict):
            inner = {**body, name: [{**value[0], "extra": 1}]}
            problem = assert_problem(client.request(method, url, json=inner), 422)
            assert [each["path"] for each in problem["errors"]] == [f"{name}.0.extra"]


@pytest.mark.parametrize(
    "url",
    [
        f"{RUNS}?limit=0",
        f"{RUNS}?limit=201",
        f"{RUNS}?limit=x",
        f"{RUNS}?limits=5",
        f"{FEATURES}?min_densty=0.1",
        "/api/v1/spend?since=1700000000",
        "/api/v1/spend?since=2026-01-31T12:00:00",
        f"{RUNS}?state=done",
        f"{RUNS}?kind=fit",
        f"{RUNS}?parent=x",
        f"{RUNS}?cursor=%00",
        f"{RUNS}?cursor=e30",
        f"{RUNS}?cursor=W10",
        f"{RUNS}/x",
        f"{RUNS}/x/events",
        f"{FEATURES}?sort=colour",
        f"{FEATURES}?order=up",
        f"{FEATURES}?min_density=-1",
        f"{FEATURES}?min_density=nan",
        f"{FEATURES}?max_density=2",
        f"{FEATURES}?min_density=0.5&max_density=0.1",
        f"{FEATURES}?has_explanation=maybe",
        f"{FEATURES}?q=",
        f"{FEATURES}?q=%00",
        f"{FEATURES}?q={'x' * 201}",
        f"{FEATURES}?scorer=%00",
        f"{FEATURES}/-1",
        f"{FEATURES}/x",
        f"{FEATURES}/2147483648",
        f"{FEATURES}/1/examples?cursor=W10",
        f"{FEATURES}/1/examples?group=zzz",
        "/api/v1/search",
        "/api/v1/search?q=",
        f"/api/v1/search?q={'x' * 401}",
        "/api/v1/search?q=%00",
        "/api/v1/search?q=x&limit=101",
        "/api/v1/saes?model=%00",
    ],
)
def test_parameters(client: TestClient, library: Library, url: str) -> None:
    body = assert_problem(client.get(url), 422)
    assert body["errors"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sae": "demo"},
        {"sae": "demo", "text": ""},
        {"sae": "demo", "text": "x" * 20_001},
        {"sae": "demo", "text": 5},
        {"sae": "demo", "text": "x", "top_k": 0},
        {"sae": "demo", "text": "x", "top_k": 101},
        {"sae": "demo", "text": "x", "features": []},
        {"sae": "demo", "text": "x", "features": [-1]},
        {"sae": "demo", "text": "x", "features": [60]},
        {"sae": "demo", "text": "x", "features": [1.5]},
        {"sae": "demo", "text": "x", "topk": 3},
        {"sae": "a\u0000b", "text": "x"},
    ],
)
def test_activation_requests(client: TestClient, library: Library, body: Any) -> None:
    assert_problem(client.post(ACTIVATIONS, json=body), 422)


def test_a_misspelt_filter_is_named(client: TestClient, library: Library) -> None:
    body = assert_problem(client.get(f"{FEATURES}?min_densty=0.1"), 422)
    (error,) = body["errors"]
    assert error["path"] == "min_densty"
    assert "did you mean 'min_density'?" in error["message"]


def test_unknown_sae_in_an_activation_request(client: TestClient) -> None:
    assert_problem(client.post(ACTIVATIONS, json={"sae": "nothing", "text": "x"}), 404)


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/nothing-here", 404),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/runs/", 404),
        ("GET", "/api/v2/runs", 404),
        ("GET", "/api/v1/saes/nothing", 404),
        ("GET", "/api/v1/saes/%2e%2e%2fetc", 404),
        ("DELETE", "/api/v1/runs", 405),
        ("PUT", "/api/v1/saes/demo", 405),
        ("GET", "/api/v1/inference/activations", 405),
    ],
)
def test_addresses(client: TestClient, method: str, url: str, status: int) -> None:
    answer = client.request(method, url)
    assert_problem(answer, status)
    if status == 405:
        assert answer.headers["allow"]


def test_a_body_over_the_limit_declared_or_not(client: TestClient) -> None:
    big = b'{"kind": "' + b"x" * (2 * 1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/json"}
    declared = client.post(RUNS, content=big, headers=headers)
    assert_problem(declared, 413)

    def chunks() -> Any:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    assert_problem(client.post(RUNS, content=chunks(), headers=headers), 413)
    just_fits = b'{"kind": "' + b"x" * (2 * 1024 * 1024 - 12) + b'"}'
    assert_problem(client.post(RUNS, content=just_fits, headers=headers), 422)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(
            st.sampled_from(["kind", "training", "sae", "site", "tokens", "k"]) | st.text(),
            children,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=JSON)
def test_no_json_is_a_server_error(client: TestClient, library: Library, body: Any) -> None:
    content = json.dumps(body).encode()
    for url in (RUNS, ACTIVATIONS):
        answer = client.post(url, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code < 500


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text(min_size=1, max_size=40))
def test_no_text_is_a_server_error(client: TestClient, library: Library, text: str) -> None:
    for url, name in ((FEATURES, "q"), ("/api/v1/search", "q"), (FEATURES, "cursor")):
        assert client.get(url, params={name: text}).status_code < 500


@pytest.mark.parametrize(
    ("url", "body", "path", "near"),
    [
        ("/lists", {"nam": "x", "name": "y"}, "nam", "name"),
        ("/inference/steer", {"sae": "demo", "prompt": "x", "new_token": 3, "features":
         [{"index": 1, "strength": 1.0}]}, "new_token", "new_tokens"),
        ("/inference/steer", {"sae": "demo", "prompt": "x", "features":
         [{"index": 1, "strength": 1.0, "modes": "add"}]}, "features.0.modes", "mode"),
        ("/inference/activations", {"text": "x", "saes": [{"sae": "demo", "feature": [1]}]},
         "saes.0.feature", "features"),
        ("/inference/contrast", {"sae": "demo", "positive": ["a"], "negative": ["b"], "rerank":
         {"description": "x", "candidate": 3}}, "rerank.candidate", "candidates"),
        ("/inference/tokenize", {"model": "m", "texts": "x", "text": "x"}, "texts", "text"),
        ("/saes/demo/features/1/scores", {"scoring": {"scorer": "intervention", "interventions":
         {}}}, "scoring.interventions", "intervention"),
    ],
)  # fmt: skip
def test_an_unknown_key_of_a_body_names_the_nearest(
    client: TestClient, url: str, body: Any, path: str, near: str
) -> None:
    answer = client.post(f"/api/v1{url}", json=body)
    assert answer.status_code == 422, answer.text
    fault = {"path": path, "message": f"unknown key; did you mean '{near}'?"}
    assert fault in answer.json()["errors"]
