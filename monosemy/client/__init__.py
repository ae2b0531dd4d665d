"""A typed client of the REST API, for notebooks and programs; no torch.

    with monosemy.Client("http://127.0.0.1:8420", key="...") as client:
        run = client.runs.wait(client.runs.submit({"kind": "pipeline", "name": "mine"}))

What it takes and gives are the models that the service itself is built of (``monosemy.specs``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType

import httpx

from monosemy.address import ServiceAddress, service_address
from monosemy.arguments import texts
from monosemy.client.benchmarks import Benchmarks
from monosemy.client.circuits import Circuits
from monosemy.client.comparisons import Comparisons
from monosemy.client.concepts import Concepts
from monosemy.client.errors import (
    ApiError,
    Conflict,
    InvalidRequest,
    NotAuthorised,
    NotFound,
    NotMonosemy,
    ServerFault,
    ServiceUnreachable,
    TryLater,
)
from monosemy.client.explanations import Explanations, Scores
from monosemy.client.exports import Exports
from monosemy.client.graphs import Graphs
from monosemy.client.inference import Inference, SteerStream
from monosemy.client.labelling import Sittings
from monosemy.client.library import Features, Models, SAEs
from monosemy.client.lists import Lists, Tags
from monosemy.client.operation import Operation
from monosemy.client.runs import RunFailed, Runs
from monosemy.client.sets import Sets
from monosemy.client.tasks import Tasks
from monosemy.client.transport import Transport, segment
from monosemy.interp.judge_test.result import Role
from monosemy.specs.rest.judge_tests import JudgeTestTable, JudgeTestView
from monosemy.specs.rest.search import SearchResults
from monosemy.specs.rest.system import Finding, Findings

PATIENCE_SECONDS = 60.0

__all__ = [
    "ApiError",
    "Client",
    "Conflict",
    "InvalidRequest",
    "NotAuthorised",
    "NotFound",
    "NotMonosemy",
    "RunFailed",
    "ServerFault",
    "ServiceUnreachable",
    "SteerStream",
    "TryLater",
    "segment",
]


class Client(Transport):
    """The service at ``url``; thread-safe.  Whatever fails is an ``ApiError``;
    an argument that cannot be sent is a ``SpecError``.  Both are ``monosemy.errors.MonosemyError``.

    Addresses that have no method here are reached by ``get``, ``post``, ``put``, ``patch`` and
    ``delete``, which take and give plain JSON.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        patience: float = PATIENCE_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """``url`` and ``key``: by default ``MONOSEMY_URL``, else that of the stack in
        ``MONOSEMY_HOME``, else this machine (``monosemy.address``), and ``MONOSEMY_API_KEY``.
        ``patience``: seconds for which a call that may be repeated is sent again while the service
        is busy."""
        address = ServiceAddress(url, "") if url else service_address()
        super().__init__(
            address.url,
            key or os.environ.get("MONOSEMY_API_KEY") or None,
            patience=patience,
            transport=transport,
            source=address.source,
        )
        self.runs = Runs(self)
        self.models = Models(self)
        self.saes = SAEs(self)
        self.sets = Sets(self)
        self.features = Features(self)
        self.explanations = Explanations(self)
        self.scores = Scores(self)
        self.sittings = Sittings(self)
        self.lists = Lists(self)
        self.tags = Tags(self)
        self.comparisons = Comparisons(self)
        self.tasks = Tasks(self)
        self.benchmarks = Benchmarks(self)
        self.circuits = Circuits(self)
        self.graphs = Graphs(self)
        self.concepts = Concepts(self)
        self.operation = Operation(self)
        self.inference = Inference(self)
        self.exports = Exports(self)

    def search(
        self,
        q: str,
        *,
        sae: str | Sequence[str] | None = None,
        model: str | None = None,
        min_density: float | None = None,
        max_density: float | None = None,
        limit: int = 20,
        examples: bool = False,
    ) -> SearchResults:
        """Features by what they are about: by meaning, by words, by spelling; with ``examples``
        each comes with its strongest."""
        return self.call(
            SearchResults,
            "GET",
            "/search",
            q=q,
            sae=[sae] if isinstance(sae, str) else sae and texts("sae", sae, "names of SAEs"),
            model=model,
            min_density=min_density,
            max_density=max_density,
            limit=limit,
            examples=examples or None,
        )

    def judge_tests(
        self,
        *,
        endpoint: str | None = None,
        model: str | None = None,
        role: Role | None = None,
    ) -> list[JudgeTestView]:
        """What judges came to when they were asked questions whose answers are known."""
        table = self.call(
            JudgeTestTable, "GET", "/judge-tests", endpoint=endpoint, model=model, role=role
        )
        return table.items

    def findings(self) -> list[Finding]:
        """What the service finds when it examines its parts; for administrators."""
        return self.call(Findings, "GET", "/system/findings").items

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
