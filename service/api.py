"""The API: every route under /api/v1."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.routing import BaseRoute

from monosemy.address import PREFIX
from service.agreement import endpoints as agreement
from service.attention import endpoints as attention
from service.audit import endpoints as audit
from service.benchmarks import endpoints as benchmarks
from service.circuits import endpoints as circuits
from service.comparisons import endpoints as comparisons
from service.concepts import endpoints as concepts
from service.docs import endpoints as docs
from service.edge.routing import operation_id
from service.explanations import endpoints as explanations
from service.explanations import provenance_endpoints as provenance
from service.exports import endpoints as exports
from service.features import column_endpoints as feature_columns
from service.features import endpoints as features
from service.graphs import common_endpoints as common_graphs
from service.graphs import endpoints as graphs
from service.graphs import heads as graph_heads
from service.graphs import steering as graph_steering
from service.graphs import supernode_endpoints as supernodes
from service.inference import attention as attention_lens
from service.inference import contrast, reading, steering
from service.inference import endpoints as inference
from service.judge_tests import endpoints as judge_tests
from service.keys import endpoints as keys
from service.kit.query_names import KnownQueryNames
from service.labelling import endpoints as labelling
from service.layouts import endpoints as layouts
from service.lists import endpoints as lists
from service.lists import entry_endpoints as list_entries
from service.models import endpoints as models
from service.pages.feature import endpoints as feature_files
from service.queues import endpoints as queues
from service.reports import endpoints as reports
from service.runs import drafts, training, waiting
from service.runs import endpoints as runs
from service.saes import endpoints as saes
from service.search import endpoints as search
from service.sessions import endpoints as sessions
from service.sets import endpoints as sets
from service.sittings import endpoints as sittings
from service.spend import endpoints as spend
from service.system import endpoints as system
from service.system import findings
from service.tags import endpoints as tags
from service.tasks import endpoints as tasks
from service.uploads import endpoints as uploads

TAGS = [
    {"name": "runs", "description": "Jobs: submit, follow, cancel, retry."},
    {"name": "models", "description": "Host models."},
    {"name": "saes", "description": "Trained sparse autoencoders."},
    {"name": "features", "description": "Latents as people see them."},
    {"name": "lists", "description": "Features that people gather and tag."},
    {"name": "explanations", "description": "What features mean, and how well that predicts."},
    {"name": "comparisons", "description": "Features of two SAEs that belong together."},
    {"name": "tasks", "description": "What dictionaries are worth at tasks of known attributes."},
    {"name": "benchmarks", "description": "How good SAEs are, and which can be told apart."},
    {"name": "circuits", "description": "Attention heads that do a task."},
    {"name": "graphs", "description": "Attribution graphs: how a prompt becomes its next token."},
    {"name": "concepts", "description": "Texts told, and written, by features found in texts."},
    {"name": "search", "description": "Features by what they are about."},
    {"name": "spend", "description": "What the judge was asked, and what it cost."},
    {"name": "judges", "description": "What judges can do, asked what is known."},
    {"name": "inference", "description": "Activations, tokens, contrasts of texts; steering."},
    {"name": "keys", "description": "API keys."},
    {"name": "sessions", "description": "Browsers that stay logged in by a cookie."},
    {"name": "system", "description": "Health and metrics."},
]

_PARTS = (
    drafts,
    runs,
    waiting,
    training,
    queues,
    keys,
    sessions,
    audit,
    models,
    uploads,
    saes,
    sets,
    features,
    feature_columns,
    layouts,
    attention,
    lists,
    list_entries,
    tags,
    exports,
    explanations,
    provenance,
    feature_files,
    sittings,
    agreement,
    labelling,
    comparisons,
    tasks,
    benchmarks,
    circuits,
    common_graphs,
    graphs,
    supernodes,
    graph_steering,
    graph_heads,
    concepts,
    reports,
    spend,
    judge_tests,
    search,
    inference,
    reading,
    contrast,
    attention_lens,
    steering,
    findings,
)
_common = APIRouter(
    prefix=PREFIX, dependencies=[KnownQueryNames], generate_unique_id_function=operation_id
)
_common.include_router(system.router)
_common.include_router(docs.router)

routes: list[BaseRoute] = [*(route for part in _PARTS for route in part.router.routes)]
routes += _common.routes
"""Every route under /api/v1, in the order in which addresses are looked up."""
