"""The API's description of itself, and what importing it costs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

ROOT = Path(__file__).resolve().parents[2]

ENDPOINTS = {
    ("post", "/api/v1/runs"),
    ("get", "/api/v1/runs"),
    ("get", "/api/v1/runs/{run_id}"),
    ("get", "/api/v1/saes/{sae}/features/{index}/around"),
    ("get", "/api/v1/sets"),
    ("get", "/api/v1/sets/{set}"),
    ("post", "/api/v1/sets"),
    ("delete", "/api/v1/sets/{set}"),
    ("get", "/api/v1/saes/{sae}/distribution"),
    ("get", "/api/v1/saes/{sae}/layout"),
    ("get", "/api/v1/saes/{sae}/attention"),
    ("get", "/api/v1/saes/{sae}/features/{index}/attention"),
    ("get", "/api/v1/saes/{sae}/columns"),
    ("get", "/api/v1/saes/{sae}/report/summary"),
    ("get", "/api/v1/saes/{sae}/features/{index}/runs"),
    ("get", "/api/v1/saes/{sae}/features/{index}/page"),
    ("post", "/api/v1/saes/{sae}/features/{index}/embed"),
    ("get", "/api/v1/saes/{sae}/page"),
    ("get", "/api/v1/lists/{list}/page"),
    ("get", "/api/v1/saes/{sae}/features/{index}/scores/{score}"),
    ("get", "/api/v1/saes/{sae}/features/{index}/scores/{score}/judgements"),
    ("get", "/api/v1/explanations/{explanation}/provenance"),
    ("get", "/api/v1/prompts/{prompt}"),
    ("patch", "/api/v1/runs/{run_id}"),
    ("delete", "/api/v1/runs/{run_id}"),
    ("delete", "/api/v1/saes/{sae}"),
    ("get", "/api/v1/queues"),
    ("get", "/api/v1/audit"),
    ("get", "/api/v1/keys"),
    ("post", "/api/v1/keys"),
    ("delete", "/api/v1/keys/{key}"),
    ("post", "/api/v1/sessions"),
    ("get", "/api/v1/sessions"),
    ("delete", "/api/v1/sessions/current"),
    ("delete", "/api/v1/sessions/{session_id}"),
    ("post", "/api/v1/inference/steer"),
    ("patch", "/api/v1/queues/{name}"),
    ("post", "/api/v1/explanations/{explanation}/scores"),
    ("get", "/api/v1/runs/{run_id}/events"),
    ("get", "/api/v1/runs/{run_id}/waiting"),
    ("get", "/api/v1/runs/{run_id}/log"),
    ("get", "/api/v1/runs/kinds"),
    ("get", "/api/v1/runs/kinds/{kind}"),
    ("post", "/api/v1/runs/parse"),
    ("get", "/api/v1/system/findings"),
    ("get", "/api/v1/runs/{run_id}/training"),
    ("post", "/api/v1/runs/{run_id}/cancel"),
    ("post", "/api/v1/runs/{run_id}/retry"),
    ("get", "/api/v1/models"),
    ("get", "/api/v1/saes"),
    ("get", "/api/v1/saes/{sae}"),
    ("post", "/api/v1/saes/uploads"),
    ("delete", "/api/v1/saes/uploads/{upload}"),
    ("get", "/api/v1/saes/{sae}/features.{form}"),
    ("get", "/api/v1/saes/{sae}/activations.{form}"),
    ("get", "/api/v1/saes/{sae}/features"),
    ("get", "/api/v1/saes/{sae}/features/{index}"),
    ("get", "/api/v1/saes/{sae}/features/{index}/examples"),
    ("get", "/api/v1/saes/{sae}/features/{index}/explanations"),
    ("post", "/api/v1/saes/{sae}/features/{index}/explanations"),
    ("get", "/api/v1/saes/{sae}/features/{index}/scores"),
    ("post", "/api/v1/saes/{sae}/features/{index}/scores"),
    ("get", "/api/v1/saes/{sae}/features/{index}/tags"),
    ("post", "/api/v1/saes/{sae}/features/{index}/tags"),
    ("delete", "/api/v1/saes/{sae}/features/{index}/tags/{tag}"),
    ("get", "/api/v1/tags"),
    ("get", "/api/v1/lists"),
    ("post", "/api/v1/lists"),
    ("get", "/api/v1/lists/{list}"),
    ("patch", "/api/v1/lists/{list}"),
    ("delete", "/api/v1/lists/{list}"),
    ("get", "/api/v1/lists/{list}/export"),
    ("post", "/api/v1/lists/{list}/entries"),
    ("post", "/api/v1/lists/{list}/entries/remove"),
    ("post", "/api/v1/lists/{list}/entries/move"),
    ("get", "/api/v1/explanations/{explanation}"),
    ("delete", "/api/v1/explanations/{explanation}"),
    ("put", "/api/v1/explanations/{explanation}/vote"),
    ("get", "/api/v1/explanations/{explanation}/nearest"),
    ("post", "/api/v1/explanations/{explanation}/sittings"),
    ("get", "/api/v1/agreement"),
    ("get", "/api/v1/labelling"),
    ("get", "/api/v1/sittings/{sitting}"),
    ("delete", "/api/v1/sittings/{sitting}"),
    ("put", "/api/v1/sittings/{sitting}/answers/{number}"),
    ("delete", "/api/v1/sittings/{sitting}/answers/{number}"),
    ("post", "/api/v1/sittings/{sitting}/score"),
    ("get", "/api/v1/sets"),
    ("get", "/api/v1/sets/{set}"),
    ("get", "/api/v1/saes/{sae}/distribution"),
    ("get", "/api/v1/saes/{sae}/layout"),
    ("get", "/api/v1/saes/{sae}/attention"),
    ("get", "/api/v1/saes/{sae}/features/{index}/attention"),
    ("get", "/api/v1/saes/{sae}/report"),
    ("get", "/api/v1/saes/{sae}/report/summary"),
    ("get", "/api/v1/saes/{sae}/report/page"),
    ("get", "/api/v1/saes/{sae}/report/beside"),
    ("get", "/api/v1/saes/{sae}/report/beside/page"),
    ("get", "/api/v1/spend"),
    ("get", "/api/v1/judge-tests"),
    ("delete", "/api/v1/judge-tests/{judge_test}"),
    ("get", "/api/v1/circuits"),
    ("get", "/api/v1/circuits/{circuit}"),
    ("delete", "/api/v1/circuits/{circuit}"),
    ("get", "/api/v1/graphs"),
    ("post", "/api/v1/graphs"),
    ("post", "/api/v1/graphs/upload"),
    ("get", "/api/v1/graphs/{graph}"),
    ("delete", "/api/v1/graphs/{graph}"),
    ("get", "/api/v1/graphs/{graph}/nodes"),
    ("get", "/api/v1/graphs/{graph}/nodes/{node}"),
    ("get", "/api/v1/graphs/{graph}/nodes/{node}/edges"),
    ("get", "/api/v1/graphs/{graph}/drawing"),
    ("get", "/api/v1/graphs/{graph}/file"),
    ("get", "/api/v1/graphs/{graph}/supernodes"),
    ("post", "/api/v1/graphs/{graph}/steer"),
    ("post", "/api/v1/graphs/{graph}/heads"),
    ("post", "/api/v1/graphs/{graph}/score"),
    ("get", "/api/v1/graphs/common"),
    ("get", "/api/v1/comparisons"),
    ("get", "/api/v1/comparisons/{comparison}"),
    ("delete", "/api/v1/comparisons/{comparison}"),
    ("get", "/api/v1/comparisons/{comparison}/matches"),
    ("get", "/api/v1/concepts"),
    ("get", "/api/v1/concepts/{concept}"),
    ("delete", "/api/v1/concepts/{concept}"),
    ("get", "/api/v1/benchmarks"),
    ("get", "/api/v1/benchmarks/{result}"),
    ("delete", "/api/v1/benchmarks/{result}"),
    ("get", "/api/v1/benchmarks/{result}/saebench"),
    ("get", "/api/v1/leaderboards"),
    ("get", "/api/v1/leaderboards/{protocol}"),
    ("get", "/api/v1/tasks"),
    ("get", "/api/v1/tasks/{task}"),
    ("delete", "/api/v1/tasks/{task}"),
    ("get", "/api/v1/saes/{sae}/features/{index}/links"),
    ("get", "/api/v1/search"),
    ("post", "/api/v1/inference/activations"),
    ("post", "/api/v1/inference/read"),
    ("post", "/api/v1/inference/tokenize"),
    ("post", "/api/v1/inference/contrast"),
    ("post", "/api/v1/inference/attention"),
    ("get", "/api/v1/healthz"),
    ("get", "/api/v1/readyz"),
    ("get", "/api/v1/metrics"),
}


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/api/v1/openapi.json").json()


@pytest.mark.integration
def test_it_describes_exactly_the_endpoints(document: dict[str, Any]) -> None:
    described = {
        (method, path) for path, operations in document["paths"].items() for method in operations
    }
    assert described == ENDPOINTS


@pytest.mark.integration
def test_every_operation_is_documented(document: dict[str, Any]) -> None:
    known = {tag["name"] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert set(operation["tags"]) <= known
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and path != "/api/v1/readyz":
                    assert list(answer["content"]) == ["application/problem+json"], (path, status)


@pytest.mark.integration
def test_who_filters_by_heads_says_that_there_may_be_no_survey(document: dict[str, Any]) -> None:
    filters = [
        (path, operation["responses"].keys())
        for path, item in document["paths"].items()
        for operation in item.values()
        if "head" in {each["name"] for each in operation.get("parameters", [])}
    ]
    assert len(filters) > 3
    assert [path for path, answers in filters if "409" not in answers] == []


@pytest.mark.integration
def test_a_graph_is_submitted_as_any_run_is(document: dict[str, Any]) -> None:
    run, graph = (document["paths"][f"/api/v1/{each}"]["post"] for each in ("runs", "graphs"))
    assert graph["responses"].keys() == run["responses"].keys() >= {"409", "413", "422"}
    assert graph["parameters"] == run["parameters"]


@pytest.mark.integration
def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert len(set(names)) == len(names)
    assert {"runs_submit", "features_list_all", "search"} <= set(names)


@pytest.mark.integration
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(schemas)
    assert {"RunSpec", "ProblemDetail", "FeaturePage", "RunFamily", "TrainRun"} <= set(schemas)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    fields = schemas["TrainingSpec"]["properties"]
    assert all(field.get("description") for field in fields.values())


@pytest.mark.integration
def test_the_docs_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    answer = client.get("/api/v1/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", answer.text)
    for _, path in ENDPOINTS:
        assert path in answer.text


COUNT_CALLS = """
import cProfile
profile = cProfile.Profile()
profile.enable()
import {modules}
profile.disable()
print(sum(entry.callcount for entry in profile.getstats()))
"""
LIBRARIES = "fastapi, sqlalchemy.orm, pgvector.sqlalchemy, httpx, numpy, redis, pydantic.v1"
"""What the API cannot do without."""


def test_the_api_takes_little_longer_to_import_than_its_libraries() -> None:
    """In calls of functions, which are as many on any machine, whatever else it does.
    ``benchmarks/serving.py`` has the seconds of a start."""

    def calls(modules: str) -> int:
        command = [sys.executable, "-c", COUNT_CALLS.format(modules=modules)]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
        )
        return int(done.stdout)

    api, libraries = calls("service.app"), calls(LIBRARIES)
    assert api < 3.5 * libraries, f"{api:,} calls, where the libraries take {libraries:,}"
