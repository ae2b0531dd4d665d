"""A client generated from the OpenAPI document, by a generator that knows nothing of us, works."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.support.library_rows import Library

pytestmark = pytest.mark.integration

PACKAGE = "monosemy_client"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("generated")
    document = folder / "openapi.json"
    document.write_text(json.dumps(create_app(Settings(home=folder)).openapi()))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
            *("--path", str(document), "--output-path", str(folder / PACKAGE)),
            "--fail-on-warning",
        ],
        # It formats what it wrote by a program that lies beside this interpreter.
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))


def call(package: ModuleType, client: TestClient, operation: str, *path: Any, **given: Any) -> Any:
    """What the generated function ``operation`` (``tag.name``) gives back, parsed."""
    module = importlib.import_module(f"{package.__name__}.api.{operation}")
    generated = package.Client(base_url=str(client.base_url))
    return module.sync(*path, client=generated.set_httpx_client(client), **given)


def test_listings_and_rows_are_typed(
    package: ModuleType, client: TestClient, library: Library
) -> None:
    page = call(package, client, "features.features_list_all", "demo", limit=7, min_density=0.02)
    assert type(page).__name__ == "PageFeatureSummary"
    assert [item.index for item in page.items] == [2, 3, 4, 7, 8, 9, 12]
    following = call(
        package,
        client,
        "features.features_list_all",
        "demo",
        limit=7,
        min_density=0.02,
        cursor=page.next_cursor,
    )
    assert following.items[0].index == 13
    feature = call(package, client, "features.features_show", "demo", 3)
    assert feature.density == 0.03
    assert feature.label


def test_a_run_is_submitted_and_followed(package: ModuleType, client: TestClient) -> None:
    models = importlib.import_module(f"{package.__name__}.models")
    spec = models.TrainRun(kind="train", training=models.TrainingSpec(tokens=5000))
    run = call(package, client, "runs.runs_submit", body=spec, priority=3)
    assert type(run).__name__ == "RunFamily"
    assert run.priority == 3
    assert run.spec.to_dict()["training"]["tokens"] == 5000
    again = call(package, client, "runs.runs_show_run", run.id)
    assert again.id == run.id
    cancelled = call(package, client, "runs.runs_cancel", run.id)
    assert cancelled.state == "cancelled"


def test_an_error_is_a_problem_with_its_faults(package: ModuleType, client: TestClient) -> None:
    problem = call(package, client, "saes.saes_show", "nothing")
    assert type(problem).__name__ == "ProblemDetail"
    assert problem.status == 404
    problem = call(package, client, "features.features_list_all", "demo", limit=1000)
    assert [fault.path for fault in problem.errors] == ["limit"]
