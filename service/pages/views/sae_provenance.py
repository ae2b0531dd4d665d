"""/saes/{sae}/provenance: what an SAE was made from, and how to make it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from monosemy.figures import number
from monosemy.specs.rest.saes import SaeDetail
from service.edge.context import ContextDep, SessionDep
from service.pages.page import PageRouter
from service.pages.sae_commands import commands
from service.pages.sae_figures import figure
from service.saes.endpoints import SaeReference, show

router = PageRouter()


@dataclass(frozen=True)
class Provenance:
    sae: SaeDetail
    facts: list[tuple[str, str]]
    parts_stored: list[tuple[str, str]]
    commands: list[tuple[str, str]]


@router.page("/saes/{sae}/provenance", "sae_provenance.html")
def provenance(session: SessionDep, context: ContextDep, sae: SaeReference) -> Provenance:
    detail = show(session, context, sae)
    stored = [
        (name, json.dumps(value, indent=1, ensure_ascii=False)) for name, value in _parts(detail)
    ]
    return Provenance(detail, _facts(detail), stored, commands(detail))


def _facts(sae: SaeDetail) -> list[tuple[str, str]]:
    """What it rests on, with the digests by which that is told from anything else."""
    made = sae.provenance
    text, model, weights = (_mapping(made.get(name)) for name in ("text", "model", "weights"))
    index = sae.index or {}
    found = [
        ("SAE", str(sae.id)),
        ("folder", sae.path),
        ("digest of its weights", weights.get("digest")),
        ("host model", sae.model.name),
        ("fingerprint of the host model", model.get("fingerprint")),
        ("dtype of the host model", model.get("dtype")),
        ("text it was made from" if sae.basis else "text it was trained on", text.get("text_id")),
        ("digest of its tokens", text.get("tokens_digest")),
        ("tokens of that text", _counted(text.get("tokens"))),
        ("documents", _counted(text.get("documents"))),
        ("tokens trained on", _counted(sae.metrics.get("tokens"))),
        ("text indexed", index.get("text_id")),
        ("digest of the weights indexed", index.get("sae_digest")),
    ]
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def _counted(value: Any) -> str | None:
    known = figure(value)
    return None if known is None else number(int(known))


def _parts(sae: SaeDetail) -> list[tuple[str, Any]]:
    """The rest, as it is stored."""
    made = sae.provenance
    names = {"spec": "Spec", "hooks": "Hooks", "text": "Text", "versions": "Versions"}
    parts = [(title, made[name]) for name, title in names.items() if name in made]
    model = _mapping(made.get("model"))
    if model:
        parts.append(("Host model", {k: v for k, v in model.items() if k not in _LONG}))
        parts += [(f"Host model: {k}", model[k]) for k in _LONG if k in model]
    if "weights" in made:
        parts.append(("Weights", made["weights"]))
    others = set(made) - set(names) - {"model", "weights"}
    parts += [(_title(name), made[name]) for name in sorted(others)]
    return [*parts, ("Configuration", sae.config)]


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


_LONG = ("parts", "sites")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
