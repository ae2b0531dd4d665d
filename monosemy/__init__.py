"""monosemy: train sparse autoencoders on a language model, explain and score every feature.

The names below are imported on first use, so that code which only needs specs or the index reader
never loads torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from monosemy.client import Client
    from monosemy.formats.saelens import load_sae, save_sae
    from monosemy.index.reader import IndexReader
    from monosemy.labels import check_judge, explain, headings, open_index, score
    from monosemy.models.host import HostModel
    from monosemy.notebook import (
        PipelineResult,
        basis,
        build_index,
        evaluate,
        pipeline,
        readings,
        run,
        train,
    )
    from monosemy.notebook_analyses import (
        attention,
        benchmark,
        circuit,
        compare,
        concept,
        feature_circuit,
        graph,
        graph_heads,
        graph_score,
        layout,
        steer_graph,
        survey_attention,
        task,
    )
    from monosemy.notebook_reports import report_beside
    from monosemy.saes.base import SAE
    from monosemy.specs import register
    from monosemy.workspace import Workspace

_HOME = {
    "Client": "monosemy.client",
    "SAE": "monosemy.saes.base",
    "HostModel": "monosemy.models.host",
    "IndexReader": "monosemy.index.reader",
    "PipelineResult": "monosemy.notebook",
    "Workspace": "monosemy.workspace",
    "attention": "monosemy.notebook_analyses",
    "basis": "monosemy.notebook",
    "benchmark": "monosemy.notebook_analyses",
    "build_index": "monosemy.notebook",
    "check_judge": "monosemy.labels",
    "circuit": "monosemy.notebook_analyses",
    "compare": "monosemy.notebook_analyses",
    "concept": "monosemy.notebook_analyses",
    "evaluate": "monosemy.notebook",
    "evaluate_set": "monosemy.notebook",
    "explain": "monosemy.labels",
    "export": "monosemy.notebook",
    "feature_circuit": "monosemy.notebook_analyses",
    "graph": "monosemy.notebook_analyses",
    "graph_heads": "monosemy.notebook_analyses",
    "graph_score": "monosemy.notebook_analyses",
    "headings": "monosemy.labels",
    "layout": "monosemy.notebook_analyses",
    "load_sae": "monosemy.formats.saelens",
    "open_index": "monosemy.labels",
    "pipeline": "monosemy.notebook",
    "readings": "monosemy.notebook",
    "register": "monosemy.specs",
    "report_beside": "monosemy.notebook_reports",
    "run": "monosemy.notebook",
    "save_sae": "monosemy.formats.saelens",
    "score": "monosemy.labels",
    "task": "monosemy.notebook_analyses",
    "steer_graph": "monosemy.notebook_analyses",
    "survey_attention": "monosemy.notebook_analyses",
    "train": "monosemy.notebook",
}

__all__ = [
    "SAE",
    "Client",
    "HostModel",
    "IndexReader",
    "PipelineResult",
    "Workspace",
    "__version__",
    "attention",
    "basis",
    "benchmark",
    "build_index",
    "check_judge",
    "circuit",
    "compare",
    "concept",
    "evaluate",
    "evaluate_set",
    "explain",
    "export",
    "feature_circuit",
    "graph",
    "graph_heads",
    "graph_score",
    "headings",
    "layout",
    "load_sae",
    "open_index",
    "pipeline",
    "readings",
    "register",
    "report_beside",
    "run",
    "save_sae",
    "score",
    "steer_graph",
    "survey_attention",
    "task",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'monosemy' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
