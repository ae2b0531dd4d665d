"""Prometheus metrics of the inference server: what is kept warm, and the GPU's memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.inference_engine import InferenceEngine


class WarmCollector(Collector):
    """Reads the engine when it is scraped."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for name, text, value in (
            ("bytes", "Bytes of weights kept warm.", self._engine.warm_bytes),
            ("budget_bytes", "Bytes that may be kept warm.", self._engine.budget),
        ):
            family = GaugeMetricFamily(f"monosemy_inference_warm_{name}", text)
            family.add_metric([], value)
            yield family
        kinds = GaugeMetricFamily(
            "monosemy_inference_warm", "Host models and SAEs kept warm.", labels=["kind"]
        )
        for kind, number in self._engine.warm_counts().items():
            kinds.add_metric([kind], number)
        yield kinds
        memory = GaugeMetricFamily(
            "monosemy_gpu_memory_bytes", "Memory of GPUs, by what it is for.", labels=["gpu", "use"]
        )
        for gpu in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(gpu)
            memory.add_metric([str(gpu), "used"], total - free)
            memory.add_metric([str(gpu), "total"], total)
        yield memory
