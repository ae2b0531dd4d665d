"""Circuit runs on the worker: the library's result becomes a row, faults become reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from monosemy.circuits.search import find_circuit
from monosemy.models.host import HostModel
from monosemy.specs import CircuitRun, ModelSpec
from monosemy.specs.rest.circuits import CircuitResult
from monosemy.workspace import Workspace
from service.app import create_app
from service.database.circuit_tables import Circuit
from service.database.session import transaction
from service.settings import Settings
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

WORDS = ("old king", "young queen", "cold river", "warm house", "long road", "high tower")


def spec(host_folder: Path, **changes: Any) -> dict[str, Any]:
    items = [
        {
            "text": f"The {words} {end}",
            "positive": end == "sat in the",
            "right": [" the"],
            "wrong": [" and"],
        }
        for words in WORDS
        for end in ("sat in the", "and and and")
    ]
    return {
        "kind": "circuit",
        "model": {"name": str(host_folder), "dtype": "float32", "device": "cpu"},
        "prompts": {"task": "given", "items": items},
        "codes": {"latents": 12, "examples": 4, "epochs": 10, "seeds": 2},
        "permutations": 20,
        "causal": {"prompts": 4, "sizes": [3], "random_sets": 1},
        "known_heads": [[1, 1]],
        **changes,
    }


def execute(engine: Engine, settings: Settings, asked: dict[str, Any]) -> Any:
    run = acts.submit(engine, asked)
    assert Worker("gpu", settings, GpuRuns(settings, engine), engine)._take_one()
    return acts.load(engine, run)


def test_the_library_finds_it_and_it_is_shown(
    clean_engine: Engine, settings: Settings, host_folder: Path, tmp_path: Path
) -> None:
    asked = spec(host_folder)
    run = execute(clean_engine, settings, asked)
    assert run.state == "succeeded", run.error
    assert [each["stage"] for each in run.stages][-3:] == ["codes", "edges", "causal"]
    assert all(each["done"] == each["total"] for each in run.stages)
    with transaction(clean_engine) as session:
        row = session.scalars(select(Circuit)).one()
        assert row.id == run.id and row.name == "given in " + host_folder.name
        stored = CircuitResult.model_validate(row.result)
    host = HostModel.load(ModelSpec.model_validate(asked["model"]), Workspace(tmp_path / "other"))
    made = find_circuit(host, CircuitRun.model_validate(asked))
    assert stored.heads == made.heads and stored.edge_list == made.edge_list
    assert stored.causal == made.causal and stored.known == made.known
    assert run.result["circuit_id"] == str(run.id) and "heads" not in run.result
    with loopback_client(create_app(settings)) as client:
        shown = client.get(f"/api/v1/circuits/{run.id}").json()
        assert shown["heads"] == made.model_dump(mode="json")["heads"]
        assert shown["model"] == str(host_folder)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"known_heads": [[9, 0]]}, "has no head 9.0; it has 4 layers of 4 heads"),
        ({"known_heads": None, "known": "gpt2-ioi"}, "12 layers of 12 heads"),
        ({"prompts": {"task": "indirect-objects", "count": 4}}, "names as single tokens"),
    ],
)
def test_what_cannot_be_searched_ends_with_its_reason(
    clean_engine: Engine,
    settings: Settings,
    host_folder: Path,
    changes: dict[str, Any],
    fault: str,
) -> None:
    run = execute(clean_engine, settings, spec(host_folder, **changes))
    assert run.state == "failed" and run.attempt == 1
    assert fault in run.error
    with transaction(clean_engine) as session:
        assert session.scalars(select(Circuit).where(Circuit.id == run.id)).all() == []
