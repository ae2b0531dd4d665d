"""What one run may take: refused at submission, with the figure, else in the worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from monosemy.errors import DataError, ModelError
from monosemy.specs import SweepRun, TrainRun, parse_spec
from monosemy.specs.memory import training_bytes
from monosemy.threads import usable_cores
from service.app import create_app
from service.kit.errors import InvalidRequest
from service.runs.ceilings import check_ceilings, check_ceilings_here
from service.settings import Settings
from tests.specs.test_spec_bounds import unbounded


@pytest.fixture
def tight(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, max_tokens=10**6, max_d_sae=1000, max_devices=2, max_memory_mb=100
    )


BEYOND: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "train", "training": {"tokens": 10**6 + 1}}, "training.tokens", "1,000,001 tokens"),
    ({"kind": "train", "text": {"max_tokens": 10**7}}, "text.max_tokens", "MAX_TOKENS"),
    ({"kind": "import", "source": "x", "text": {"max_tokens": 10**7}}, "text.max_tokens", ""),
    ({"kind": "evaluate", "sae": "x", "evaluation": {"tokens": 10**7}}, "evaluation.tokens", ""),
    (
        {"kind": "evaluate", "sae": "x", "evaluation": {"reconstruction_tokens": 10**7}},
        "evaluation.reconstruction_tokens",
        "MONOSEMY_MAX_TOKENS",
    ),
    ({"kind": "index", "sae": "x", "indexing": {"max_tokens": 10**7}}, "indexing.max_tokens", ""),
    ({"kind": "index", "sae": "x", "text": {"max_tokens": 10**7}}, "text.max_tokens", ""),
    ({"kind": "pipeline", "indexing": {"max_tokens": 10**7}}, "indexing.max_tokens", ""),
    ({"kind": "pipeline", "evaluation": {"tokens": 10**7}}, "evaluation.tokens", ""),
    ({"kind": "train", "sae": {"d_sae": 1001}}, "sae.d_sae", "1,001 latents"),
    ({"kind": "pipeline", "sae": {"d_sae": 2**31 - 1}}, "sae.d_sae", "MONOSEMY_MAX_D_SAE"),
    ({"kind": "sweep", "saes": [{"d_sae": 64}, {"d_sae": 2000}]}, "saes.1.d_sae", "2,000"),
    ({"kind": "train", "training": {"devices": 4}}, "training.devices", "MONOSEMY_MAX_DEVICES"),
    (
        {"kind": "graph", "prompt": "a b", "set": "tc", "trace": {"devices": 9}},
        "trace.devices",
        "MONOSEMY_MAX_DEVICES",
    ),
    ({"kind": "sweep", "training": {"devices": 4}}, "training.devices", "4 devices"),
    ({"kind": "train", "training": {"buffer_tokens": 10**12}}, "training", "64,000,0"),
    ({"kind": "train", "training": {"batch_tokens": 2**30}}, "training", "MAX_MEMORY_MB"),
]


@pytest.mark.parametrize(("data", "path", "words"), BEYOND)
def test_beyond_a_ceiling(tight: Settings, data: dict[str, Any], path: str, words: str) -> None:
    small = {"sae": {"d_sae": 512}} if data["kind"] in ("train", "pipeline") else {}
    small |= {"saes": [{"d_sae": 512}]} if data["kind"] == "sweep" else {}
    data = {"training": {}, **small, **data} if small else data
    spec = parse_spec(
        {**data, **({"training": {"tokens": 10**5, **data["training"]}} if small else {})}
    )
    with pytest.raises(InvalidRequest) as caught:
        check_ceilings(tight, spec)
    problems = dict(caught.value.problems)
    assert path in problems and words in problems[path]
    with pytest.raises(DataError, match="this server allows"):
        check_ceilings_here(tight, spec)
    check_ceilings(
        Settings(
            home=tight.home,
            max_memory_mb=10**9,
            max_d_sae=2**31,
            max_tokens=10**15,
            max_devices=1024,
        ),
        spec,
    )


def test_every_default_is_within_the_defaults(tmp_path: Path) -> None:
    for kind in ("train", "sweep", "pipeline"):
        check_ceilings(Settings(home=tmp_path), parse_spec({"kind": kind}), width=4096)


def test_memory_is_refused_with_the_models_own_width(tight: Settings) -> None:
    spec = parse_spec({"kind": "train", "sae": {"d_sae": 1000}, "training": {"tokens": 10}})
    check_ceilings(tight, spec)
    with pytest.raises(
        InvalidRequest, match=r"at least [\d,]+ MB.*allows 100 MB.*MONOSEMY_MAX_MEMORY_MB"
    ):
        check_ceilings(tight, spec, width=4096)


def test_what_a_training_takes() -> None:
    def taken(**options: Any) -> int:
        data = {"buffer_tokens": 8, "batch_tokens": 4, "frozen_decoder_baseline": False}
        spec = parse_spec({"kind": "train", "sae": {"d_sae": 64}, "training": {**data, **options}})
        assert isinstance(spec, TrainRun)
        return training_bytes([spec], spec.training, 16)

    matrices, rest = 2 * 64 * 16, 8 * 16 + 4 * 64
    assert taken() == 4 * (4 * matrices + rest)
    assert taken(optimiser="signum") == 4 * (3 * matrices + rest)
    assert taken(frozen_decoder_baseline=True) == 4 * (4 * matrices + 5 * matrices // 2 + rest)
    assert taken(buffer_tokens=1008) == 4 * (4 * matrices + rest + 1000 * 16)
    assert taken(devices=2, split="dictionary", frozen_decoder_baseline=False) < taken()
    sweep = parse_spec(
        {"kind": "sweep", "sites": ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]}
    )
    assert isinstance(sweep, SweepRun)
    one, two = sweep.members()[:1], sweep.members()
    assert training_bytes(two, sweep.training, 640) > 1.9 * training_bytes(one, sweep.training, 640)


@pytest.mark.parametrize(
    ("keys", "named", "allowed"),
    [
        (False, "", ("wandb", "trackio")),
        (False, "trackio", ("trackio",)),
        (True, "", ()),
        (True, "wandb, trackio", ("wandb", "trackio")),
    ],
)
def test_trackers(tmp_path: Path, keys: bool, named: str, allowed: tuple[str, ...]) -> None:
    settings = Settings(
        home=tmp_path, require_keys=keys, secret=SecretStr("s" * 32), trackers=named
    )
    for tracker in ("wandb", "trackio"):
        for kind in ("train", "sweep", "pipeline"):
            spec = parse_spec({"kind": kind, "training": {"tracker": tracker}})
            if tracker in allowed:
                check_ceilings(settings, spec)
                continue
            with pytest.raises(InvalidRequest, match="MONOSEMY_TRACKERS"):
                check_ceilings(settings, spec)
            with pytest.raises(DataError, match="MONOSEMY_TRACKERS"):
                check_ceilings_here(settings, spec)


def test_an_unknown_tracker_is_no_setting(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no tracker"):
        Settings(home=tmp_path, trackers="wandb,aim")


def test_more_devices_than_usable_cores_are_refused(tmp_path: Path) -> None:
    from monosemy.training.job import Job
    from monosemy.training.launch import train_in_processes
    from monosemy.workspace import Workspace

    cores = usable_cores()
    spec = parse_spec(
        {
            "kind": "train",
            "model": {"device": "cpu"},
            "training": {"devices": cores + 1, "batch_tokens": 2 * (cores + 1)},
        }
    )
    assert isinstance(spec, TrainRun)
    job = Job(tmp_path / "job", [spec], spec.training, spec.model, Workspace(tmp_path))
    with pytest.raises(ModelError, match=rf"and {cores} cores can be used here"):
        train_in_processes(job)
    assert not (tmp_path / "job").exists()


def references(node: Any) -> Iterator[str]:
    """Names of the schemas that a part of the OpenAPI document refers to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[-1]
        node = list(node.values())
    for each in node if isinstance(node, list) else ():
        yield from references(each)


CHECKED_BY_HAND = {"idempotency-key"}
"""Headers with a check of their own."""


def test_everything_that_is_sent_has_bounds(tmp_path: Path) -> None:
    """Every parameter and every field of a body, of every route."""
    document = create_app(Settings(home=tmp_path)).openapi()
    operations = [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    faults = [
        f"{name}: {parameter['name']}"
        for name, operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["name"] not in CHECKED_BY_HAND and list(unbounded(parameter["schema"]))
    ]
    waiting = [name for _, each in operations for name in references(each.get("requestBody"))]
    known: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        known.add(name)
        schema = document["components"]["schemas"][name]
        faults += [f"{name}{path}" for path in unbounded(schema)]
        waiting += references(schema)
    assert not faults
    assert len(operations) > 60 and len(known) > 40


@pytest.mark.integration
@pytest.mark.parametrize("digits", [400, 4299, 4301, 5000, 20_000])
def test_numbers_of_many_digits_are_refused(client: TestClient, digits: int) -> None:
    """Above 4,300 digits Python itself refuses to read them."""
    number = "1" + "0" * digits
    bodies = [
        '{"kind": "train", "training": {"tokens": %s}}',
        '{"kind": "train", "sae": {"d_sae": %s}}',
        '{"kind": "train", "training": {"seed": -%s}}',
        '{"kind": "train", "training": {"learning_rate": %s}}',
        '{"kind": "train", "training": {"learning_rate": 1e%s}}',
        '{"kind": "score", "sae": "x", "features": [%s]}',
        '{"kind": %s}',
    ]
    for body in bodies:
        answer = client.post(
            "/api/v1/runs",
            content=body % number,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, (body, answer.text[:300])
        assert answer.json()["type"].endswith("invalid-request")
    for url in ("/api/v1/runs?limit=%s", "/api/v1/saes?limit=%s", "/api/v1/search?q=x&limit=%s"):
        assert client.get(url % number[:5000]).status_code == 422


@pytest.mark.integration
def test_a_submission_beyond_a_ceiling_leaves_no_run(client: TestClient) -> None:
    before = client.get("/api/v1/runs").json()["items"]
    answer = client.post("/api/v1/runs", json={"kind": "train", "sae": {"d_sae": 2**30}})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["path"] == "sae.d_sae" and "1,073,741,824 latents" in error["message"]
    assert client.get("/api/v1/runs").json()["items"] == before
    deep = json.dumps({"kind": "train", "training": {}}).replace(
        "{}", '{"a":' * 500 + "1" + "}" * 500
    )
    assert client.post("/api/v1/runs", content=deep).status_code == 422
