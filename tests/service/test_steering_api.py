"""POST /inference/steer: what is sent on, what comes back whole or as a stream, what goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from service.database.session import transaction
from service.database.tables import Feature
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

URL = "/api/v1/inference/steer"


def token(row: str, text: str, **more: Any) -> dict[str, Any]:
    plain = {"id": 5, "text": text, "logprob": -0.5, "top": [], "last": False}
    return {"event": "token", "row": row, **plain, **more}


EVENTS = [
    {"event": "prompt", "text": "Once", "tokens": 1},
    token("steered", " upon"),
    token("plain", " more", top=[{"id": 6, "text": " x", "logprob": -1.0}]),
    token("steered", " a king", last=True),
    {"event": "end", "steered": "stop", "plain": "length"},
]


def body(**changes: Any) -> dict[str, Any]:
    features = [{"index": 9, "strength": 2.0}]
    return {"sae": "demo", "prompt": "Once", "features": features, **changes}


@pytest.fixture
def largest(module_engine: Engine, library: Library) -> float:
    with transaction(module_engine) as session:
        query = select(Feature.max_activation).where(
            Feature.sae_id == library.sae, Feature.index == 9
        )
        return float(session.scalars(query).one())


def test_beside_come_back_whole(
    client: TestClient, inference: Any, library: Library, largest: float
) -> None:
    inference.events = EVENTS
    asked = [
        {"index": 9, "strength": 2.0},
        {"index": 1, "strength": -3.0, "unit": "activation", "mode": "clamp"},
    ]
    answer = client.post(URL, json=body(features=asked, new_tokens=3, seed=9, logprobs=1))
    assert answer.status_code == 200, answer.text
    response = answer.json()
    assert response["sae"]["id"] == str(library.sae) and response["prompt"] == "Once"
    assert response["steered"]["text"] == " upon a king" and response["steered"]["ended"] == "stop"
    assert response["plain"]["text"] == " more" and response["plain"]["ended"] == "length"
    assert response["plain"]["tokens"][0]["top"] == [{"id": 6, "text": " x", "logprob": -1.0}]
    strengths = [(each["index"], each["strength"], each["mode"]) for each in response["features"]]
    assert strengths == [(9, pytest.approx(2 * largest), "add"), (1, -3.0, "clamp")]
    assert response["features"][0]["label"]
    path, sent = inference.requests[0]
    assert path == "/steer" and sent["prompt"] == "Once" and sent["messages"] is None
    assert sent["pushes"][0] == {
        "latent": 9,
        "strength": pytest.approx(2 * largest),
        "mode": "add",
    }
    assert sent["writing"] == {
        "new_tokens": 3,
        "temperature": 0.7,
        "seed": 9,
        "where": "all",
        "special_tokens": False,
        "logprobs": 1,
    }


def test_ablating_needs_no_maximum(client: TestClient, inference: Any) -> None:
    inference.events = EVENTS
    never_fires = {"index": 7, "strength": 1.0, "mode": "ablate"}
    answer = client.post(URL, json=body(features=[never_fires]))
    assert answer.status_code == 200, answer.text
    assert inference.requests[0][1]["pushes"] == [{"latent": 7, "strength": 0.0, "mode": "ablate"}]


def test_without_comparison_there_is_one_text(client: TestClient, inference: Any) -> None:
    inference.events = [EVENTS[0], EVENTS[1], {"event": "end", "steered": "length"}]
    response = client.post(URL, json=body(compare=False)).json()
    assert response["plain"] is None and response["steered"]["text"] == " upon"


def test_tokens_are_streamed(client: TestClient, inference: Any) -> None:
    inference.events = EVENTS
    chat = [{"role": "user", "content": "Hello"}]
    asked = body(prompt=None, messages=chat, stream=True)
    with client.stream("POST", URL, json=asked) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = answer.read().decode().strip().split("\n\n")
    events = [block.split("\n") for block in blocks]
    assert [lines[0] for lines in events] == [
        "event: prompt",
        *["event: token"] * 3,
        "event: end",
    ]
    first, second = (json.loads(lines[1].removeprefix("data: ")) for lines in events[:2])
    assert first["features"][0]["index"] == 9 and first["sae"]["name"] == "demo"
    assert (second["row"], second["text"]) == ("steered", " upon")
    assert inference.requests[0][1]["messages"] == chat


def test_a_stream_that_breaks_says_so(client: TestClient, inference: Any) -> None:
    inference.events = [*EVENTS[:2], {"event": "error", "detail": "out of memory"}]
    assert "out of memory" in client.post(URL, json=body(stream=True)).text
    whole = client.post(URL, json=body())
    assert whole.status_code == 503 and "retry-after" in whole.headers
    for status, answered in ((503, 503), (500, 502), (422, 422)):
        inference.events[-1]["status"] = status
        answer = client.post(URL, json=body())
        assert answer.status_code == answered and "out of memory" in answer.json()["detail"]
    for events in ([*EVENTS[:2]], ["nonsense"], [{"no": "event"}], []):
        inference.events = events
        assert client.post(URL, json=body()).status_code == 503
    inference.events = [*EVENTS[:2], "nonsense"]
    assert "event: error" in client.post(URL, json=body(stream=True)).text


@pytest.mark.parametrize(
    "places",
    [
        {"where": "new"},
        {"where": "special", "special_tokens": False},
        {"where": "range", "range": {"first": -3, "last": -1}},
        {"where": "tokens", "tokens": {"texts": [" the"], "kinds": ["newline"]}},
    ],
)
def test_places_are_sent_on(client: TestClient, inference: Any, places: dict[str, Any]) -> None:
    inference.events = [{**EVENTS[0], "pushed": 1}, *EVENTS[1:]]
    answer = client.post(URL, json=body(**places))
    assert answer.status_code == 200 and answer.json()["pushed"] == 1, answer.text
    sent = inference.requests[0][1]["writing"]
    for name, value in places.items():
        assert sent[name] == value or sent[name].items() >= value.items()
    assert {"range", "tokens"} & set(sent) == {"range", "tokens"} & set(places)


@pytest.mark.parametrize(
    ("places", "path", "words"),
    [
        ({"where": "range"}, "range", "say which"),
        ({"where": "tokens"}, "tokens", "say which"),
        ({"where": "range", "range": {"first": 4, "last": 2}}, "range.last", "before first"),
        ({"where": "range", "range": {"first": -2, "last": -4}}, "range.last", "before first"),
        ({"where": "range", "range": {"from": 2}}, "range.from", "unknown"),
        ({"where": "range", "range": {"first": 10**9}}, "range.first", "1000000"),
        ({"where": "range", "range": {"first": True}}, "range.first", "number"),
        ({"where": "new", "range": {"first": 1}}, "range", "goes with where 'range'"),
        ({"tokens": {"ids": [1]}}, "tokens", "goes with where 'tokens'"),
        ({"where": "tokens", "tokens": {}}, "tokens", "name a text"),
        ({"where": "tokens", "tokens": {"contains": [""]}}, "tokens.contains.0", "at least 1"),
        ({"where": "tokens", "tokens": {"ids": [3] * 101}}, "tokens.ids", "at most 100"),
        ({"where": "tokens", "tokens": {"kinds": ["verb"]}}, "tokens.kinds.0", "newline"),
        ({"where": "tokens", "tokens": {"regex": "a*"}}, "tokens.regex", "unknown"),
        ({"where": "everywhere"}, "where", "generated"),
    ],
)
def test_places_that_make_no_sense(
    client: TestClient, inference: Any, places: dict[str, Any], path: str, words: str
) -> None:
    answer = client.post(URL, json=body(**places))
    assert answer.status_code == 422, answer.text
    faults = {each["path"]: each["message"] for each in answer.json()["errors"]}
    assert words in faults[path], faults
    assert inference.requests == []


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": None},
        {"messages": [{"role": "user", "content": "both"}]},
        {"features": []},
        {"features": [{"index": -1, "strength": 1.0}]},
        {"features": [{"index": 9, "strength": "far"}]},
        {"features": [{"index": 7, "strength": 1.0}]},  # it never fires: there is no unit
        {"features": [{"index": 9, "strength": 1e9}]},
        {"features": [{"index": 10**6, "strength": 1.0}]},
        {"features": [{"index": 9, "strength": 1.0, "mode": "twist"}]},
        {"features": [{"index": 9, "strength": 1.0}] * 51},
        {"new_tokens": 100_000},
        {"temperature": -1},
        {"prompt": ""},
        {"prompt": None, "messages": [{"role": "USER; DROP", "content": "x"}]},
        {"surplus": 1},
    ],
)
def test_what_cannot_be_asked(client: TestClient, inference: Any, changes: dict[str, Any]) -> None:
    answer = client.post(URL, json=body(**changes))
    assert answer.status_code == 422, answer.text
    assert inference.requests == []


def test_unknown_saes_and_a_server_that_is_away(client: TestClient, inference: Any) -> None:
    assert client.post(URL, json=body(sae="nobody")).status_code == 404
    inference.away = True
    assert client.post(URL, json=body()).status_code == 503
