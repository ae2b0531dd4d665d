"""From YAML, JSON or a dict to a run spec, with errors that say what to do."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from monosemy.arguments import a_mapping
from monosemy.errors import SpecError
from monosemy.specs.messages import message_of
from monosemy.specs.names import STORED
from monosemy.specs.part import Part
from monosemy.specs.plugins import load_plugins
from monosemy.specs.registry import Registered
from monosemy.specs.run import KINDS, RunSpec
from monosemy.specs.yaml_text import NotYaml, yaml_of

_TOO_DEEP = "it is nested too deeply"


def parse_spec(data: Any) -> RunSpec:
    """Validates ``data`` as the run spec of its ``kind``.

    Raises ``SpecError`` with every fault at once; an unknown key names the nearest known one.
    """
    return _parsed(data, None)


def parse_stored_spec(data: Any) -> RunSpec:
    """``parse_spec`` of what was accepted before, by a version that may have had another rule for
    names: they are taken as they are."""
    return _parsed(data, STORED)


def _parsed(data: Any, context: dict[str, bool] | None) -> RunSpec:
    if not isinstance(data, Mapping):
        raise SpecError([("", "a run spec is a mapping of keys to values")])
    kind = data.get("kind")
    if isinstance(kind, str) and kind not in KINDS:
        load_plugins()
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join(KINDS)
        raise SpecError(
            [("kind", f"{kind!r} is not a kind of run{_nearest(str(kind), KINDS)}; known: {known}")]
        )
    return parse_part(KINDS[kind], data, context)


S = TypeVar("S", bound=RunSpec)


def parse_run(kind: type[S], spec: Mapping[str, Any] | RunSpec) -> S:
    """``spec`` as a run of this kind, whose name a mapping may leave out; ``SpecError`` for one of
    another kind, or for none."""
    name = kind.model_fields["kind"].default
    if isinstance(spec, RunSpec):
        parsed = spec
    else:
        takes = f"a run spec of kind '{name}', as a mapping"
        parsed = parse_spec({"kind": name, **a_mapping("spec", spec, takes)})
    if not isinstance(parsed, kind):
        raise SpecError([("kind", f"a spec of kind '{name}' is needed, not '{parsed.kind}'")])
    return parsed


P = TypeVar("P", bound=Part)


def parse_part(
    model: type[P], data: Mapping[str, Any], context: dict[str, bool] | None = None
) -> P:
    """Validates ``data`` as one part of a spec; raises ``SpecError`` as ``parse_spec`` does."""
    try:
        return model.model_validate(dict(data), context=context)
    except ValidationError as error:
        raise SpecError([_describe(model, data, item) for item in error.errors()]) from None


def load_spec(path: str | Path) -> dict[str, Any]:
    """Reads a YAML or JSON file into a dict (JSON is YAML); raises ``SpecError``."""
    try:
        data = yaml_of(Path(path).read_bytes())
    except OSError as error:
        raise SpecError([("", f"cannot read {path}: {error.strerror}")]) from None
    except NotYaml as fault:
        place = f"{path}, {fault.place}" if fault.place else f"{path}"
        raise SpecError([("", f"{place}: neither YAML nor JSON: {fault}")]) from None
    if not isinstance(data, dict):
        raise SpecError([("", f"{path} does not hold a mapping of keys to values")])
    return data


def read_spec(text: str) -> dict[str, Any]:
    """Reads YAML or JSON that somebody sent; raises ``SpecError``, with the line where it knows."""
    try:
        data = yaml_of(text, aliases=False)
        if not isinstance(data, dict):
            raise SpecError([("", "a run spec is a mapping of keys to values")])
        # What JSON does not have (dates, sets, bytes, infinities) no spec takes.
        json.dumps(data, allow_nan=False)
    except NotYaml as fault:
        place = f"{fault.place}: " if fault.place else ""
        raise SpecError([("", f"this is neither YAML nor JSON: {place}{fault}")]) from None
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        why = _TOO_DEEP if isinstance(error, RecursionError) else str(error)[:200]
        raise SpecError([("", f"this is neither YAML nor JSON: {why}")]) from None
    return {str(key): value for key, value in data.items()}


def write_spec(spec: Mapping[str, Any]) -> str:
    """``spec`` as YAML, keys in their order; raises ``SpecError`` where it is nested too deeply."""
    try:
        text: str = yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True, width=100)
    except RecursionError:
        raise SpecError([("", _TOO_DEEP)]) from None
    return text


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``["training.tokens=50000"]`` laid over ``data``; values are YAML.  Raises ``SpecError``."""
    result: dict[str, Any] = _deep_copy(data)
    for item in overrides:
        path, separator, value = item.partition("=")
        if not separator or not path:
            raise SpecError([(item, "write it as key.subkey=value")])
        *parents, leaf = path.split(".")
        target = result
        for parent in parents:
            child = target.setdefault(parent, {})
            if not isinstance(child, dict):
                raise SpecError([(path, f"'{parent}' holds a value, not a group of keys")])
            target = child
        try:
            target[leaf] = yaml_of(value)
        except NotYaml as fault:
            raise SpecError([(path, f"{value!r} is not YAML: {fault}")]) from None
    return result


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _deep_copy(item) for key, item in value.items()}
    return value


def _describe(model: type[Part], data: Any, item: Any) -> tuple[str, str]:
    location = [str(part) for part in item["loc"]]
    text = message_of(item)
    if item["type"] == "extra_forbidden":
        text = unknown_key(model, item["loc"], data)
    return ".".join(location), text


def unknown_key(kind: Any, location: Sequence[str | int], data: Any = None) -> str:
    """What is wrong with the key at ``location``, within a body (``data``) that is a model or one
    of several: it has no such key, and which one is near."""
    options = {each.__name__: each for each in get_args(kind) if isinstance(each, type)}
    if location[0] in options:
        kind, location = options[str(location[0])], location[1:]
    model = _model_in(kind)
    candidates = _fields_at(model, data, location[:-1]) if model else []
    return f"unknown key{_nearest(str(location[-1]), candidates)}"


def _nearest(word: str, candidates: Any) -> str:
    close = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def _fields_at(model: type[BaseModel], data: Any, path: Sequence[str | int]) -> list[str]:
    """Names of the fields of the nested model at ``path``, where ``data`` says of which class."""
    current: type[BaseModel] | None = model
    for name in path:
        data = _within(data, name)
        if not isinstance(name, int):  # else a place in a list
            info = current.model_fields.get(name) if current else None
            current = _model_in(info.annotation) if info else None
        if current is not None and issubclass(current, Registered):
            current = current.named_in(data)
    return list(current.model_fields) if current else []


def _within(data: Any, name: str | int) -> Any:
    try:
        return data[name]
    except (KeyError, IndexError, TypeError):
        return None


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated, list):
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None
