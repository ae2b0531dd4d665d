"""What the endpoints of inference share: whom to ask, how to fail, and answers in our own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.orm import Session

from monosemy.specs import ModelSpec, parse_part
from monosemy.specs.inference.activations import (
    ActivationsAnswer,
    ChosenFeature,
    FiringFeature,
    SaeCall,
    SaeChoice,
    TokenActivations,
)
from monosemy.specs.inference.prompts import FeatureIndices, SaePlace
from service.database.tables import Model, Sae
from service.features.repository import labels_of
from service.inference.client import InferenceAway, InferenceFailed, InferenceRefused
from service.kit.errors import (
    DomainError,
    InvalidRequest,
    Unavailable,
    Unprocessable,
    UpstreamFailed,
)
from service.saes.repository import find_sae

FoundSae = tuple[Sae, Model]


def domain_error(error: InferenceAway | InferenceRefused) -> DomainError:
    """What goes wrong at the inference server as an error of the domain: ``Unavailable`` where
    another try may help, ``Unprocessable`` where the request is at fault, ``UpstreamFailed`` with
    its reason where the server came upon an error."""
    if isinstance(error, InferenceFailed):
        title = "The inference server failed"
        return UpstreamFailed(str(error), code="inference-failed", title=title)
    if isinstance(error, InferenceAway):
        return Unavailable("The inference server", str(error))
    title = "The inference server refused this"
    return Unprocessable(str(error), code="refused-by-inference", title=title)


@contextmanager
def inference_problems() -> Iterator[None]:
    """Raises the ``domain_error`` of what goes wrong within."""
    try:
        yield
    except (InferenceAway, InferenceRefused) as error:
        raise domain_error(error) from error


def host_spec(model: Model) -> ModelSpec:
    """A host model as the inference server takes it."""
    return parse_part(ModelSpec, model.spec)


def sae_place(sae: Sae) -> SaePlace:
    """An SAE as the inference server takes it."""
    recorded = {
        name: sae.provenance[name] for name in ("weights", "model") if name in sae.provenance
    }
    return SaePlace(id=str(sae.id), path=sae.path, site=sae.site, recorded=recorded or None)


def sae_call(sae: Sae, features: FeatureIndices | None, only: bool = True) -> SaeCall:
    """An SAE that is to read a text."""
    return SaeCall(**dict(sae_place(sae)), features=features, only=only)


def find_saes(
    session: Session, choices: Sequence[SaeChoice], several: bool, named: str = "features"
) -> list[FoundSae]:
    """Those chosen; 404 for one that is not there, 422 for features (in the field ``named``) that
    it does not have and for SAEs of different host models."""
    rows = [find_sae(session, each.sae) for each in choices]
    faults = []
    for number, ((sae, model), choice) in enumerate(zip(rows, choices, strict=True)):
        where = f"saes.{number}." if several else ""
        if any(index >= sae.d_sae for index in choice.features or []):
            fault = f"'{sae.name}' has features 0 to {sae.d_sae - 1}"
            faults.append((f"{where}{named}", fault))
        if model.id != rows[0][1].id:
            first = rows[0][1].name
            faults.append((f"{where}sae", f"its host model is '{model.name}', not '{first}'"))
    if faults:
        raise InvalidRequest(faults)
    return rows


def by_token(answer: ActivationsAnswer) -> list[TokenActivations]:
    """Tokens with the features of all SAEs; labels are still to come."""
    tokens = [TokenActivations(**dict(token), features=[]) for token in answer.tokens]
    for number, sae in enumerate(answer.saes):
        for token, features in zip(tokens, sae.features, strict=True):
            token.features += [
                FiringFeature(sae=number, index=index, activation=activation, label=None)
                for index, activation in features
            ]
    return tokens


def chosen_rows(answer: ActivationsAnswer, choices: Sequence[SaeChoice]) -> list[ChosenFeature]:
    """Features that were asked for; labels are still to come."""
    return [
        ChosenFeature(sae=number, index=index, label=None, activations=activations)
        for number, (sae, choice) in enumerate(zip(answer.saes, choices, strict=True))
        for index, activations in zip(choice.features or [], sae.chosen or [], strict=True)
    ]


def add_labels(
    session: Session,
    saes: Sequence[FoundSae],
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
