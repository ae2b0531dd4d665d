"""The prompt of a stored graph, as the inference server is asked to read it again, and what its
answer is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.orm import Session

from monosemy.graphs.graph import Graph
from monosemy.graphs.placed_edits import same_goals
from monosemy.specs.graphs import GraphGoals
from monosemy.specs.inference.graph_steering import GraphPrompt
from service.database.graph_tables import StoredGraph
from service.database.tables import Model, Sae
from service.edge.context import AppContext
from service.features.repository import labels_of
from service.graphs.endpoints import WHOLE
from service.graphs.repository import find_graph
from service.graphs.service import saes_of, served
from service.graphs.storing import details_of
from service.inference.service import host_spec, sae_place
from service.kit.errors import Conflict

_AGAIN = "Trace the prompt again with SAEs that are here."


@dataclass(frozen=True)
class OpenedGraph:
    """A stored graph whose prompt can be run again."""

    graph: Graph
    prompt: GraphPrompt
    goals: GraphGoals
    saes: list[Sae]
    """In the order of the nodes' ``coder``."""


class Called(Protocol):
    """What gets a label, where it is of a feature."""

    label: str | None

    @property
    def coder(self) -> int | None: ...
    @property
    def latent(self) -> int | None: ...


def opened_graph(session: Session, context: AppContext, reference: str) -> OpenedGraph:
    """``NotFound``; ``Conflict`` for an uploaded graph, for a feature circuit, and where an SAE or
    the host model is gone or another than the graph was made with."""
    row = find_graph(session, reference, *WHOLE)
    graph = context.graphs.of(row).graph
    _check_runs(row)
    saes = _saes(session, row)
    spec = details_of(row).spec
    assert spec is not None  # only graphs without a prompt to run have none
    prompt = _prompt(session, graph, saes)
    return OpenedGraph(graph, prompt, same_goals(graph, spec.goals), saes)


def give_labels(session: Session, saes: Sequence[Sae], features: Iterable[Called]) -> None:
    """One statement for each SAE."""
    features = list(features)
    for coder, sae in enumerate(saes):
        own = [(each, each.latent) for each in features if each.coder == coder]
        latents = {latent for _, latent in own if latent is not None}
        labels = labels_of(session, sae.id, sorted(latents)) if latents else {}
        for each, latent in own:
            each.label = None if latent is None else labels.get(latent)


def _check_runs(row: StoredGraph) -> None:
    if row.uploaded:
        raise _gone(
            f"The graph '{row.name}' was uploaded: no SAEs and no host model of it are here.",
            "Trace its prompt here, with SAEs of this service, and ask that graph.",
        )
    if row.kind != "graph":
        raise _gone(
            f"'{row.name}' is a feature circuit: it is of pairs of prompts, and of none alone.",
            "Trace one of its prompts, and ask that graph.",
        )


def _prompt(session: Session, graph: Graph, saes: Sequence[Sae]) -> GraphPrompt:
    model = session.get_one(Model, saes[0].model_id)
    made_in = graph.about.get("host")
    fingerprint = made_in.get("fingerprint") if isinstance(made_in, dict) else None
    for sae in saes:
        now = (sae.provenance.get("model") or {}).get("fingerprint")
        if fingerprint is not None and now is not None and now != fingerprint:
            raise _gone(f"'{sae.name}' is of another {model.name} than the graph was made in.")
    return GraphPrompt(
        model=host_spec(model),
        saes=[sae_place(sae) for sae in saes],
        ids=list(graph.ids),
        whole_tokens=int(graph.about.get("whole_tokens", 1)),
        fingerprint=fingerprint,
    )


def _saes(session: Session, row: StoredGraph) -> list[Sae]:
    named, rows = saes_of(row), served(session, row)
    gone = [each.name for each, sae in zip(named, rows, strict=True) if sae is None]
    if gone or not rows:
        listed = ", ".join(f"'{name}'" for name in gone[:3]) + (" ..." if len(gone) > 3 else "")
        raise _gone(f"SAEs of the graph are gone, or have other weights now: {listed or 'all'}.")
    return [sae for sae in rows if sae is not None]


def _gone(message: str, advice: str = _AGAIN) -> Conflict:
    return Conflict(
        message, advice, code="graph-cannot-run", title="The graph's prompt cannot be run again"
    )
