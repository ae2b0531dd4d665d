"""The prompt of a stored graph, as the inference server is asked to read it again."""

from __future__ import annotations

from sqlalchemy.orm import Session

from monosemy.graphs.graph import Graph
from monosemy.specs.inference.graph_steering import GraphPrompt
from service.database.graph_tables import StoredGraph
from service.database.tables import Model, Sae
from service.graphs.service import saes_of, served
from service.inference.service import host_spec, sae_place
from service.kit.errors import Conflict

_AGAIN = "Trace the prompt again with SAEs that are here."


def graph_prompt(session: Session, row: StoredGraph, graph: Graph) -> GraphPrompt:
    """``Conflict`` for an uploaded graph, for a feature circuit, and where an SAE or the host model
    is gone or another than the graph was made with."""
    if row.uploaded:
        raise _gone(
            f"The graph '{row.name}' was uploaded: no SAEs and no host model of it are here.",
            "Trace its prompt here to change its features.",
        )
    if row.kind != "graph":
        raise _gone(
            f"'{row.name}' is a feature circuit: it is of pairs of prompts, and of none alone.",
            "Trace one of its prompts to change features there.",
        )
    saes = _saes(session, row)
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
