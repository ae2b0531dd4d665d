"""Traces, where ``MONOSEMY_OTEL_ENDPOINT`` names an OpenTelemetry collector.

A request is a span, in the API and in the inference server that it asks; so is a run's attempt,
with its finished stages as events.  Without a collector nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.kit.errors import Misconfigured

_tracer: Any = None


def configure_tracing(endpoint: str | None, part: str, exporter: Any = None) -> None:
    """Sends this process's spans to the collector at ``endpoint``, as ``monosemy-<part>``.

    ``exporter`` stands for the collector where it is given.  Raises ``Misconfigured`` where the
    packages of the extra ``otel`` are missing.
    """
    global _tracer
    if endpoint is None and exporter is None:
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    except ImportError:
        raise Misconfigured(
            "Traces need OpenTelemetry's packages.",
            "pip install 'monosemy[otel]', or leave MONOSEMY_OTEL_ENDPOINT out.",
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": f"monosemy-{part}"}))
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        address = f"{str(endpoint).rstrip('/')}/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    _tracer = provider.get_tracer("monosemy")


def stop_tracing() -> None:
    """No more spans from here on."""
    global _tracer
    _tracer = None


@contextmanager
def span(name: str, caller: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[Any]:
    """What happens in the block; ``caller`` are headers that may name the span it belongs to.

    Gives the span, or None without a collector.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry import propagate

    context = propagate.extract(caller) if caller is not None else None
    with _tracer.start_as_current_span(name, context=context, attributes=attributes) as current:
        yield current


def note(name: str, **attributes: Any) -> None:
    """An event of the span under way."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().add_event(name, attributes)


def outgoing() -> dict[str, str]:
    """Headers that tell who is asked which span it is for."""
    headers: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers
