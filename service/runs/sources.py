"""Where the things that a spec names come from: the hub, an upload, a folder; never an address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from monosemy.errors import DataError, SpecError
from monosemy.formats.hub import parse_hub
from monosemy.specs import ModelSpec, Part, RunSpec, parse_stored_spec
from monosemy.specs.references import (
    Mark,
    SaeReference,
    SetReference,
    Source,
    references,
    strings,
    undeclared,
)
from monosemy.workspace import Workspace
from service.kit.errors import InvalidRequest
from service.runs.readable_paths import (
    FILES,
    PACKAGED,
    artifact_refused,
    begins_as_path,
    path_refused,
)
from service.settings import Settings
from service.settings.outbound import AllowList, HubNames, parse_address
from service.uploads import store as uploads


def check_sources(settings: Settings, spec: Part, claiming: bool = True) -> None:
    """422 for a spec that would have a worker go where this server does not allow it.

    An upload that it names is kept for a while longer, where ``claiming``.
    """
    faults = list(_faults(settings, spec))
    if faults:
        raise InvalidRequest(faults)
    for step in spec.steps() if isinstance(spec, RunSpec) else ():
        check_sources(settings, step.spec, claiming)
    look = uploads.claim if claiming else uploads.locate
    for reference, mark in references(spec, Source):
        if mark.kind == "sae":
            try:
                look(Workspace(settings.artifacts), reference.value)
            except DataError as error:
                raise InvalidRequest([(reference.where, str(error))]) from None


def check_paths(settings: Settings, spec: Part) -> None:
    """A worker's own look, at what is really there: links may lead elsewhere.  ``DataError``."""
    for where in undeclared(spec):
        raise DataError(f"{where}: nothing says what this names.")
    for reference, mark in references(spec, Source):
        if mark.kind == "artifact":
            if (why := artifact_refused(settings, reference.value)) is not None:
                raise DataError(f"{reference.where}: {why}.")
        elif mark.kind != "judge":  # a judge's address is looked at where the judge is opened
            check_path(settings, reference.value, sae=mark.kind == "sae")


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


def _faults(settings: Settings, spec: Part) -> Iterator[tuple[str, str]]:
    """(path in the spec, why it is refused), by the words alone."""
    hub = HubNames(settings.hub_names)
    for reference, mark in references(spec, Source):
        if mark.kind == "judge":
            why = judge_refused(settings, reference.value)
        elif mark.kind == "artifact":
            why = artifact_refused(settings, reference.value)
        else:
            sae = mark.kind == "sae"
            why = _refused(hub, reference.value, sae) or path_refused(
                settings, reference.value, sae=sae
            )
        if why:
            yield reference.where, why
    for where in undeclared(spec):
        yield where, "nothing says what this names, so it is not taken"


def saes_named(stored: Mapping[str, Any]) -> set[str]:
    """Names and ids of SAEs in a stored spec; every string of one that cannot be read here."""
    return _named(stored, SaeReference)


def sets_named(stored: Mapping[str, Any]) -> set[str]:
    """The same of sets."""
    return _named(stored, SetReference)


def _named(stored: Mapping[str, Any], mark: type[Mark]) -> set[str]:
    try:
        return {each.value for each, _ in references(parse_stored_spec(stored), mark)}
    except SpecError:
        return set(strings(stored))


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
    if not name.strip():
        return "it is blank, and names nothing"
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
