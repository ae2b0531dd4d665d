"""Where the things that a spec names come from: the hub, an upload, a folder; never an address."""

from __future__ import annotations

from collections.abc import Iterator

from monosemy.errors import DataError
from monosemy.formats.hub import parse_hub
from monosemy.specs import (
    ExplanationSpec,
    ImportRun,
    ModelSpec,
    Part,
    ScoringSpec,
    TextSpec,
)
from monosemy.workspace import Workspace
from service.kit.errors import InvalidRequest
from service.runs.places import FILES, PACKAGED, artifact_refused, begins_as_path, path_refused
from service.settings import Settings
from service.settings.outbound import AllowList, HubNames, parse_address
from service.uploads import store as uploads


def check_sources(settings: Settings, spec: Part) -> None:
    """422 for a spec that would have a worker go where this server does not allow it.

    An upload that it names is kept for a while longer.
    """
    hub = HubNames(settings.hub_names)
    faults = [
        (path, why)
        for path, name in _named(spec)
        if (
            why := _refused(hub, name, path == "source")
            or path_refused(settings, name, sae=path == "source")
        )
    ]
    faults += [
        (path, why) for path, name in _probes(spec) if (why := artifact_refused(settings, name))
    ]
    faults += [(path, why) for path, url in _judges(spec) if (why := judge_refused(settings, url))]
    if faults:
        raise InvalidRequest(faults)
    if isinstance(spec, ImportRun):
        try:
            uploads.claim(Workspace(settings.artifacts), spec.source)
        except DataError as error:
            raise InvalidRequest([("source", str(error))]) from None


def check_paths(settings: Settings, spec: Part) -> None:
    """A worker's own look, at what is really there: links may lead elsewhere.  ``DataError``."""
    for path, folder in _probes(spec):
        if (why := artifact_refused(settings, folder)) is not None:
            raise DataError(f"{path}: {why}.")
    for path, name in _named(spec):
        check_path(settings, name, sae=path == "source")


def check_path(settings: Settings, name: str, sae: bool = False) -> None:
    """``DataError`` unless ``name`` may be read here, links followed, or is no path."""
    if sae and name.startswith(uploads.PREFIX):
        return
    refused = path_refused(settings, name, really=True, sae=sae)
    if refused is not None:
        raise DataError(f"'{name}': {refused}.")


def check_model(settings: Settings, model: ModelSpec) -> None:
    """Where a host model is about to be loaded: ``DataError`` for one that this server's settings
    do not allow, whoever asks for it."""
    refused = _refused(HubNames(settings.hub_names), model.name, sae=False)
    if refused is not None:
        raise DataError(f"'{model.name[:200]}': {refused}.")
    check_path(settings, model.name)


def _named(spec: Part) -> Iterator[tuple[str, str]]:
    """(path in the spec, name) of models, texts and SAEs."""
    model, text = getattr(spec, "model", None), getattr(spec, "text", None)
    if isinstance(model, ModelSpec):
        yield "model.name", model.name
    if isinstance(text, TextSpec):
        yield "text.source", text.source
    if isinstance(spec, ImportRun):
        yield "source", spec.source


def _judges(spec: Part) -> Iterator[tuple[str, str | None]]:
    """(path in the spec, address) of judges."""
    explanation, scoring = getattr(spec, "explanation", None), getattr(spec, "scoring", None)
    if isinstance(explanation, ExplanationSpec):
        yield "explanation.judge.url", explanation.judge.url
    if isinstance(scoring, ScoringSpec):
        yield "scoring.judge.url", scoring.judge.url
    for number, each in enumerate(scoring if isinstance(scoring, list) else []):
        yield f"scoring.{number}.judge.url", each.judge.url


def _probes(spec: Part) -> Iterator[tuple[str, str]]:
    """(path in the spec, folder) of probes."""
    scoring = getattr(spec, "scoring", None)
    if isinstance(scoring, ScoringSpec):
        yield "scoring.probe.folder", scoring.probe.folder
    for number, each in enumerate(scoring if isinstance(scoring, list) else []):
        yield f"scoring.{number}.probe.folder", each.probe.folder


def is_own_judge(settings: Settings, url: str | None) -> bool:
    """Whether ``url`` is the configured judge's address, or none, which stands for it."""
    if url is None or url == settings.judge_url:
        return True
    try:
        return parse_address(url) == parse_address(str(settings.judge_url))
    except ValueError:
        return False


def judge_refused(settings: Settings, url: str | None) -> str | None:
    """Why no judge may be asked at ``url``; None for the configured one and those allowed."""
    if url is None or is_own_judge(settings, url):
        return None
    try:
        if AllowList(settings.outbound_allowed).covers(url):
            return None
    except ValueError as error:
        return f"this is no plain address: {error}"
    return "this server does not allow that address: its operator can, with MONOSEMY_OUTBOUND_ALLOW"


def _refused(hub: HubNames, name: str, sae: bool) -> str | None:
    """Why a worker must not fetch ``name``; None where it may, or would not."""
    if not sae and name.casefold().startswith(uploads.PREFIX):
        return "what was uploaded can be imported as an SAE, and is never a model or a text"
    if "://" in name or name.startswith("//"):
        return "an address is never fetched: name a file, a folder or a repository of the hub"
    if "\x00" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
        return "holds characters that no name has"
    if name in PACKAGED or name.startswith(uploads.PREFIX):
        return None
    if begins_as_path(name) or name.endswith(FILES):
        return None
    try:
        source = parse_hub(name)
    except DataError as error:
        return str(error)
    # SAELens' releases and SAEs by owner/name/sae_id come from the hub too.
    repository = source.repository if source else "/".join(name.split("/")[:2])
    if hub.cover(repository):
        return None
    return (
        f"'{repository[:200]}' would be fetched from the hub, which this server does not allow: "
        "its operator can, with MONOSEMY_HUB"
    )
