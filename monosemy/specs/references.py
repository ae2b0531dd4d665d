"""What the strings of a spec name: an SAE, a set, an explanation, something to fetch, or nothing.

The type of a field says it: ``Annotated[str, SaeReference()]``.  Routing, the check of sources, the
ceilings and garbage collection walk the fields and need not know the kind of run.  A field whose
type does not say it is refused when its class is registered, and again where a value is met.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class Mark:
    """What a field says of its values; base of the marks below."""


@dataclass(frozen=True)
class SaeReference(Mark):
    """An SAE that is there, by id or unique name; ``PENDING_SAE`` in a step of a pipeline."""

    changed: bool = False
    """The run replaces something that this SAE has: only for the owner of the SAE."""
    distinct: bool = False
    """The run needs another SAE than those that its fields before this one name."""
    site: str | None = None
    """The kind of site that the SAE has to read and write (``attn.hook_z``); None for any."""


@dataclass(frozen=True)
class SetReference(Mark):
    """A set that is there, by name: all its SAEs."""


@dataclass(frozen=True)
class ExplanationReference(Mark):
    """The id of a stored explanation, of an SAE that the spec names."""


@dataclass(frozen=True)
class Source(Mark):
    """Something that a worker reads or calls: checked against what the deployment allows."""

    kind: Literal["model", "text", "sae", "judge", "artifact"]
    """``model``, ``text``, ``sae``: a package, file, folder or repository of the hub, for an SAE
    also an upload; ``judge``: an address; ``artifact``: a folder below the artifact root."""


@dataclass(frozen=True)
class Plain(Mark):
    """Names nothing that is looked up, read, fetched or called."""


@dataclass(frozen=True)
class Tokens(Mark):
    """A number of tokens that a run works through: held to the deployment's ceiling."""


_COLLECTIONS = (Mapping, list, tuple, set, frozenset)

M = TypeVar("M", bound=Mark)


@dataclass(frozen=True)
class NamedValue:
    """One value of a spec that names something."""

    path: tuple[str | int, ...]
    value: Any
    mark: Mark

    @property
    def where(self) -> str:
        """The path as errors write it."""
        return ".".join(map(str, self.path))


def references(spec: BaseModel, mark: type[M]) -> Iterator[tuple[NamedValue, M]]:
    """Every value of ``spec`` that is marked so, at any depth, with its mark."""
    for reference in _named_values(spec):
        if isinstance(reference.mark, mark):
            yield reference, reference.mark


def undeclared(spec: BaseModel) -> list[str]:
    """Paths of the values whose fields do not say what they name (only unregistered classes have
    such)."""
    return [reference.where for reference in _named_values(spec) if type(reference.mark) is Mark]


def token_counts(spec: BaseModel) -> Iterator[tuple[str, int]]:
    """(path, number) of everything that is marked as ``Tokens``, at any depth."""
    for path, part in parts_of(spec, BaseModel):
        for name, info in type(part).model_fields.items():
            marks = [m for _, own in _leaves(info.annotation, _marks(info.metadata)) for m in own]
            value = getattr(part, name)
            for each in value if isinstance(value, list | tuple) else [value]:
                if isinstance(each, int) and Tokens() in marks:
                    yield f"{path}.{name}" if path else name, each


P = TypeVar("P", bound=BaseModel)


def parts_of(spec: BaseModel, part: type[P]) -> Iterator[tuple[str, P]]:
    """(path, part) of every part of this class, ``spec`` itself included, at any depth."""

    def walk(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str, P]]:
        if isinstance(value, part):
            yield ".".join(map(str, path)), value
        for step, each in _inside(value):
            yield from walk(each, (*path, step))

    return walk(spec, ())


def undeclared_fields(model: type[BaseModel]) -> list[str]:
    """What is wrong with the fields of a class and of the classes in them, one line each: strings
    and ids without a mark, and types that could hold any string."""
    faults: list[str] = []
    for part in part_classes(model):
        for name, info in part.model_fields.items():
            place = f"{part.__name__}.{name}"
            for leaf, marks in _leaves(info.annotation, _marks(info.metadata)):
                if leaf in (str, uuid.UUID):
                    if len(marks) != 1:
                        faults.append(f"{place}: mark what this {leaf.__name__} names, or Plain()")
                elif not _harmless(leaf):
                    faults.append(f"{place}: {leaf!r} could hold a string that nobody checks")
    return faults


def part_classes(model: type[BaseModel]) -> list[type[BaseModel]]:
    """``model`` and the classes of all parts that it may hold, each once."""
    classes = [model]
    for part in classes:  # grows
        for info in part.model_fields.values():
            for leaf, _ in _leaves(info.annotation, []):
                if _is_part(leaf) and leaf not in classes:
                    classes.append(leaf)
    return classes


def replaced(data: Mapping[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy of a spec's JSON in which ``value`` stands at ``path``."""

    def put(node: Any, rest: tuple[str | int, ...]) -> Any:
        if not rest:
            return value
        step, *more = rest
        if isinstance(node, Mapping):
            return {**node, step: put(node[step], tuple(more))}
        return [put(each, tuple(more)) if at == step else each for at, each in enumerate(node)]

    changed: dict[str, Any] = put(data, path)
    return changed


def strings(value: Any) -> Iterator[str]:
    """Every string of a JSON value, keys aside: for specs that no class here reads."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings(each)


def _named_values(spec: BaseModel) -> Iterator[NamedValue]:
    """Every string and id of a spec with its mark; ``Mark()`` for those that have none."""

    def walk(value: Any, annotation: Any, marks: list[Mark], path: Any) -> Iterator[NamedValue]:
        if isinstance(value, BaseModel):
            for name, info in type(value).model_fields.items():
                inner = _marks(info.metadata)
                yield from walk(getattr(value, name), info.annotation, inner, (*path, name))
        elif isinstance(value, _COLLECTIONS):
            for step, each in _inside(value):
                yield from walk(each, annotation, marks, (*path, step))
        elif value is not None and not isinstance(value, int | float | enum.Enum):
            leaves = list(_leaves(annotation, marks))
            if any(get_origin(leaf) is Literal and value in get_args(leaf) for leaf, _ in leaves):
                return
            own = {mark for leaf, each in leaves if leaf is type(value) for mark in each}
            for mark in own or {Mark()}:
                yield NamedValue(path, value, mark)

    return walk(spec, type(spec), [], ())


def _inside(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, BaseModel):
        yield from ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        yield from ((str(key), each) for key, each in value.items())
    elif isinstance(value, _COLLECTIONS):
        yield from enumerate(value)


def _marks(metadata: Any) -> list[Mark]:
    return [each for each in metadata if isinstance(each, Mark)]


def _leaves(annotation: Any, marks: list[Mark]) -> Iterator[tuple[Any, list[Mark]]]:
    """(type, marks) of everything that ``annotation`` may hold, items of lists included; a mark
    holds for all that it stands around.  A dict is a leaf: its keys name things too."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _leaves(arguments[0], [*marks, *_marks(arguments[1:])])
    elif origin in (Literal, dict) or not arguments:
        yield annotation, marks
    else:
        for each in arguments:
            if each is not Ellipsis:
                yield from _leaves(each, marks)


def _harmless(leaf: Any) -> bool:
    """Whether nothing of this type names anything, parts aside, which are looked at themselves."""
    if leaf is None or get_origin(leaf) is Literal:
        return True
    return isinstance(leaf, type) and (
        issubclass(leaf, int | float | enum.Enum | BaseModel) or leaf is type(None)
    )


def _is_part(leaf: Any) -> bool:
    return isinstance(leaf, type) and issubclass(leaf, BaseModel)
