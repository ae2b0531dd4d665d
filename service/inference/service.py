"""What the endpoints of inference share: whom to ask, how to fail, and answers in our own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from monosemy.specs.inference.activations import (
    ChosenFeature,
    FiringFeature,
    Prompted,
    SaeChoice,
    TokenActivations,
)
from service.database.tables import Model, Sae
from service.features.repository import labels_of
from service.inference.client import InferenceAway, InferenceFailed, InferenceRefused
from service.kit.errors import InvalidRequest, Unavailable, Unprocessable, UpstreamFailed
from service.saes.repository import find_sae

Found = tuple[Sae, Model]


@contextmanager
def inference_problems() -> Iterator[None]:
    """Turns what goes wrong at the inference server into errors of the domain: ``Unavailable``
    where another try may help, ``Unprocessable`` where the request is at fault, ``UpstreamFailed``
    with its reason where the server came upon an error.  Answers of another form than agreed are
    the server's."""
    try:
        yield
    except InferenceFailed as error:
        raise UpstreamFailed(
            str(error), code="inference-failed", title="The inference server failed"
        ) from error
    except InferenceAway as error:
        raise Unavailable("The inference server", str(error)) from error
    except InferenceRefused as error:
        raise Unprocessable(
            str(error), code="refused-by-inference", title="The inference server refused this"
        ) from error
    except (KeyError, IndexError, TypeError, ValueError, ValidationError):
        raise Unavailable(
            "The inference server", "The inference server's answer is not what was agreed."
        ) from None


def prompt_body(request: Prompted) -> dict[str, Any]:
    """A text or chat as the inference server takes it."""
    messages = request.messages
    return {
        "text": request.text,
        "messages": None if messages is None else [each.model_dump() for each in messages],
        "generation_prompt": request.generation_prompt,
    }


def sae_body(sae: Sae) -> dict[str, Any]:
    """An SAE as the inference server takes it."""
    kept = {name: sae.provenance[name] for name in ("weights", "model") if name in sae.provenance}
    return {"id": str(sae.id), "path": sae.path, "site": sae.site} | (
        {"recorded": kept} if kept else {}
    )


def find_saes(session: Session, choices: Sequence[SaeChoice], several: bool) -> list[Found]:
    """Those chosen; 404 for one that is not there, 422 for features that it does not have and for
    SAEs of different host models."""
    found = [find_sae(session, each.sae) for each in choices]
    faults = []
    for number, ((sae, model), choice) in enumerate(zip(found, choices, strict=True)):
        where = f"saes.{number}." if several else ""
        if any(index >= sae.d_sae for index in choice.features or []):
            fault = f"'{sae.name}' has features 0 to {sae.d_sae - 1}"
            faults.append((f"{where}features", fault))
        if model.id != found[0][1].id:
            first = found[0][1].name
            faults.append((f"{where}sae", f"its host model is '{model.name}', not '{first}'"))
    if faults:
        raise InvalidRequest(faults)
    return found


def by_token(answer: dict[str, Any]) -> list[TokenActivations]:
    """Tokens with the features of all SAEs; labels are still to come."""
    tokens = [TokenActivations(**token, features=[]) for token in answer["tokens"]]
    for number, told in enumerate(answer["saes"]):
        for token, features in zip(tokens, told["features"], strict=True):
            token.features += [
                FiringFeature(sae=number, index=index, activation=activation, label=None)
                for index, activation in features
            ]
    return tokens


def chosen_rows(answer: dict[str, Any], choices: Sequence[SaeChoice]) -> list[ChosenFeature]:
    """Features that were asked for; labels are still to come."""
    tokens = len(answer["tokens"])
    rows = []
    for number, (told, choice) in enumerate(zip(answer["saes"], choices, strict=True)):
        wanted = choice.features or []
        for index, activations in zip(wanted, told["chosen"] or [], strict=True):
            if len(activations) != tokens:
                raise ValueError("an activation for each token")
            rows.append(ChosenFeature(sae=number, index=index, label=None, activations=activations))
    return rows


def add_labels(
    session: Session,
    saes: Sequence[Found],
    tokens: Sequence[TokenActivations],
    chosen: Sequence[ChosenFeature],
) -> None:
    """One statement for each SAE."""
    items: list[FiringFeature | ChosenFeature] = [*chosen]
    items += [feature for token in tokens for feature in token.features]
    for number, (sae, _) in enumerate(saes):
        own = [item for item in items if item.sae == number]
        labels = labels_of(session, sae.id, sorted({item.index for item in own}))
        for item in own:
            item.label = labels.get(item.index)
