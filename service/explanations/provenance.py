"""The way from an explanation back to the text: what each step notes of the one before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from monosemy.errors import DataError
from monosemy.interp.prompts.loader import load_prompt
from monosemy.specs.rest.provenance import (
    ExplainedText,
    ExplanationProvenance,
    Link,
    PromptSection,
    PromptView,
)
from monosemy.workspace import Workspace
from service.database.tables import Explanation, Model, Sae
from service.explanations.service import explanation_views
from service.explanations.windows import RADIUS, Place, windows
from service.kit.errors import NotFound
from service.models.tokens import TokenTables

_MOST_EXAMPLES = 200
_WIDEST = 512


def prompt_view(name: str, version: int | None) -> PromptView:
    """404 for a prompt that there is not."""
    try:
        prompt = load_prompt(name, version)
    except DataError as error:
        raise NotFound("prompt", name, str(error)) from None
    return PromptView(
        name=prompt.name,
        version=prompt.version,
        hash=prompt.hash,
        sections=[PromptSection(role=role, text=text) for role, text in prompt.sections],
    )


def asked_with(noted: Mapping[str, Any]) -> tuple[str, int] | None:
    """Name and version of the prompt that a score's details or an explanation's provenance name,
    if it is here."""
    prompt = _prompt(_part(noted, "prompt"))
    return None if prompt is None else (prompt.name, prompt.version)


def provenance_of(
    session: Session,
    tables: TokenTables,
    workspace: Workspace,
    explanation: Explanation,
    reader: str,
) -> ExplanationProvenance:
    sae = session.get_one(Sae, explanation.sae_id)
    model = session.get_one(Model, sae.model_id)
    noted = explanation.provenance
    asked = _part(noted, "prompt")
    prompt = _prompt(asked)
    text = _part(sae.provenance, "text")
    weights = _word(_part(sae.provenance, "weights").get("digest"))
    trained_on = _part(sae.provenance, "model")
    index = None
    if sae.index is not None:
        index = {key: value for key, value in sae.index.items() if key != "path"}
    return ExplanationProvenance(
        explanation=explanation_views(session, reader, [explanation])[0],
        prompt=prompt,
        judge=_part(noted, "judge") or None,
        usage=_numbers(_part(noted, "usage")),
        examples=_examples(session, tables, workspace, sae, explanation),
        index=index,
        sae=sae.name,
        sae_id=sae.id,
        weights=weights,
        model=model.name,
        model_fingerprint=_word(model.info.get("fingerprint")),
        text=text,
        source=_part(sae.config, "text"),
        links=[
            link
            for link in (
                Link(
                    what="prompt",
                    here=_word(asked.get("hash")),
                    there=prompt.hash if prompt else None,
                ),
                Link(
                    what="SAE that was indexed",
                    here=_word((sae.index or {}).get("sae_digest")),
                    there=weights,
                ),
                Link(
                    what="text that was indexed",
                    here=_word((sae.index or {}).get("text_id")),
                    there=_word(text.get("text_id")),
                ),
                Link(
                    what="host model of the SAE",
                    here=_word(trained_on.get("fingerprint")),
                    there=_word(model.info.get("fingerprint")),
                ),
            )
            if link.here is not None
        ],
    )


def _prompt(asked: Mapping[str, Any]) -> PromptView | None:
    name, version = asked.get("name"), asked.get("version")
    if not isinstance(name, str) or not isinstance(version, int):
        return None
    try:
        return prompt_view(name, version)
    except NotFound:
        return None


def _examples(
    session: Session,
    tables: TokenTables,
    workspace: Workspace,
    sae: Sae,
    explanation: Explanation,
) -> list[ExplainedText]:
    noted = explanation.provenance
    stored = noted.get("examples")
    cited = noted.get("evidence")
    cited = cited if isinstance(cited, list) else []
    shown = [
        each
        for each in (stored if isinstance(stored, list) else [])[:_MOST_EXAMPLES]
        if isinstance(each, Mapping)
        and isinstance(each.get("row"), int)
        and isinstance(each.get("position"), int)
    ]
    places = [Place(each["row"], each["position"]) for each in shown]
    radius = _part(noted, "parameters").get("radius")
    wide = min(radius, _WIDEST) if isinstance(radius, int) and radius > 0 else RADIUS
    texts = windows(session, tables, workspace, sae, explanation.feature, places, wide)
    return [
        ExplainedText(
            id=str(each.get("id", "")),
            group=str(each.get("group", "")),
            cited=each.get("id") in cited,
            text=text,
        )
        for each, text in zip(shown, texts, strict=True)
    ]


def _part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return dict(part) if isinstance(part, Mapping) else {}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _numbers(part: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in part.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
