"""Traces: one over both servers for a request, one for a run; and no cost without a collector."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.app import create_app
from service.observability import tracing
from tests.support import run_acts as acts
from tests.support.served import served
from tests.support.trained_library import Trained
from workers.gpu import GpuRuns
from workers.inference import create_app as create_inference
from workers.worker import Worker

pytestmark = pytest.mark.integration


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure_tracing(None, "test", exporter)
    yield exporter
    tracing.stop_tracing()


def test_a_request_is_one_trace_over_both_servers(
    trained: Trained, spans: InMemorySpanExporter
) -> None:
    with served(create_inference(trained.settings)) as inference:
        settings = trained.settings.model_copy(update={"inference_url": inference})
        local = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 5)}
        with TestClient(create_app(settings), **local) as client:  # type: ignore[arg-type]
            answer = client.post("/api/v1/inference/activations", json={"sae": "tiny", "text": "x"})
            assert answer.status_code == 200, answer.text
            assert client.get("/api/v1/saes/nothing").status_code == 404
    spans_by_name = {span.name: span for span in spans.get_finished_spans()}
    outer, inner = (
        spans_by_name["POST /api/v1/inference/activations"],
        spans_by_name["POST /activations"],
    )
    assert inner.context.trace_id == outer.context.trace_id
    assert inner.parent is not None and inner.parent.span_id == outer.context.span_id
    identity = answer.headers["x-request-id"]
    assert outer.attributes["request_id"] == inner.attributes["request_id"] == identity
    assert spans_by_name["GET /api/v1/saes/{sae}"].attributes["http.response.status_code"] == 404


def test_a_run_is_a_span_with_its_stages(trained: Trained, spans: InMemorySpanExporter) -> None:
    spec = {"kind": "evaluate", "sae": "tiny", "evaluation": {"tokens": 256}}
    run = acts.submit(trained.engine, spec)
    gpu = GpuRuns(trained.settings, trained.engine)
    assert Worker("gpu", trained.settings, gpu, trained.engine)._take_one()
    (span,) = [each for each in spans.get_finished_spans() if each.name == "run evaluate"]
    assert span.attributes["run_id"] == str(run) and span.attributes["attempt"] == 1
    assert "evaluate" in [event.name for event in span.events]


def test_without_a_collector_nothing_is_measured(tmp_path: Path) -> None:
    code = (
        "import service.observability.tracing as t\n"
        "t.configure_tracing(None, 'api')\n"
        "with t.span('x') as span: assert span is None\n"
        "t.note('y'); assert t.outgoing() == {}\n"
        "assert t._tracer is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
