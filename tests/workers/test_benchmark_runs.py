"""Benchmark runs: through the worker into rows, taken up again, refused, read by the client."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, select

from monosemy.specs import parse_spec
from monosemy.specs.rest.benchmarks import BenchmarkResult
from service.app import create_app
from service.database.benchmark_tables import StoredBenchmark
from service.database.session import transaction
from tests.support import run_acts as acts
from tests.support.loopback import loopback_client, typed_client
from tests.support.trained_library import SITE, Trained
from workers.gpu import GpuRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration


@pytest.fixture
def spec(trained: Trained) -> dict[str, Any]:
    with transaction(trained.engine) as session:
        session.execute(delete(StoredBenchmark))
    text = trained.sae.config["text"]
    return {
        "kind": "benchmark",
        "saes": ["tiny"],
        "benchmarks": [{"benchmark": "core", "text": text, "tokens": 2000}],
    }


def execute(trained: Trained, spec: dict[str, Any]) -> Any:
    run = acts.submit(trained.engine, parse_spec(spec).model_dump(mode="json"))
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    return acts.load(trained.engine, run)


def rows(trained: Trained) -> int:
    with transaction(trained.engine) as session:
        return session.scalar(select(func.count()).select_from(StoredBenchmark)) or 0


def test_a_run_measures_the_sae_once_and_for_all(trained: Trained, spec: dict[str, Any]) -> None:
    run = execute(trained, spec)
    assert run.state == "succeeded", run.error
    stages = {each["stage"]: (each["done"], each["total"]) for each in run.stages}
    assert stages["benchmarks"] == (1, 1)
    assert all(done == total > 0 for done, total in stages.values())
    (short,) = run.result["results"]
    assert (short["sae"], short["metric"], short["kept"]) == ("tiny", "explained_variance", False)
    assert short["reference"] == str(trained.sae.id) and run.result["not_measured"] == []
    with transaction(trained.engine) as session:
        row = session.scalars(select(StoredBenchmark)).one()
        result = BenchmarkResult.model_validate(row.result)
        assert row.run_id == run.id and row.sae_id == trained.sae.id
        assert (row.protocol, row.site) == (result.about.protocol, SITE)
        assert row.figures[0]["subject"] == "sae" and "parts" not in row.figures[0]
    assert result.about.architecture == "topk" and result.about.seed == 0
    again = execute(trained, spec)
    assert again.result["results"][0]["kept"] and rows(trained) == 1
    other = execute(trained, {**spec, "benchmarks": [{**spec["benchmarks"][0], "tokens": 1000}]})
    assert not other.result["results"][0]["kept"] and rows(trained) == 2


def test_other_weights_are_measured_anew_in_place_of_the_old(
    trained: Trained, spec: dict[str, Any]
) -> None:
    first = execute(trained, spec)
    with transaction(trained.engine) as session:
        session.scalars(select(StoredBenchmark)).one().sae_digest = "f" * 16
    second = execute(trained, spec)
    assert not second.result["results"][0]["kept"] and rows(trained) == 1
    with transaction(trained.engine) as session:
        assert session.scalars(select(StoredBenchmark)).one().run_id == second.id != first.id


def test_what_cannot_be_measured_is_said(trained: Trained, spec: dict[str, Any]) -> None:
    (core,) = spec["benchmarks"]
    more = {**core, "text": {**core["text"], "heldout_fraction": 0.8}}
    run = execute(trained, {**spec, "benchmarks": [core, more]})
    assert run.state == "succeeded" and len(run.result["results"]) == 1
    (failure,) = run.result["not_measured"]
    assert failure["sae"] == "tiny" and "trained on some of these documents" in failure["reason"]
    nothing = execute(trained, {**spec, "benchmarks": [more]})
    assert nothing.state == "failed" and "Nothing could be measured" in nothing.error
    twice = execute(trained, {**spec, "saes": ["tiny", str(trained.sae.id)]})
    assert twice.state == "failed" and "names an SAE twice" in twice.error


def test_the_client_reads_it(trained: Trained, spec: dict[str, Any]) -> None:
    run = execute(trained, spec)
    with loopback_client(create_app(trained.settings)) as server, typed_client(server) as client:
        (row,) = client.benchmarks.list(sae="tiny", benchmark="core", run=run.id)
        whole = client.benchmarks.get(row)
        assert whole.sae == "tiny" and whole.about.protocol == row.protocol
        (header,) = client.benchmarks.leaderboards(site=SITE)
        board = client.benchmarks.leaderboard(header, metric="l0")
        assert board.metric == "l0" and board.rows[0].best_rank is None
        assert board.rows[0].figure.value == next(
            each.value for each in whole.metrics if (each.metric, each.subject) == ("l0", "sae")
        )
        client.benchmarks.delete(row)
        assert not [*client.benchmarks.list()]
