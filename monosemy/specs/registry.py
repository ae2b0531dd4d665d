"""Parts of specs of which there are several, each in a class of its own: SAE architectures,
scorers, explainers.

A registry holds the classes of one sort by name; unions, lists of names and schemas are read off
it.  Importable without torch: a class names what computes with it as ``module:Class``.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Self, TypedDict, TypeVar, cast

from pydantic import ValidationError, ValidationInfo
from pydantic.annotated_handlers import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from monosemy.errors import MonosemyError
from monosemy.specs.names import STORED
from monosemy.specs.part import NAME, Part
from monosemy.specs.plugins import imported, load_plugins, registering_modules
from monosemy.specs.references import undeclared_fields


class Need(StrEnum):
    """What a scorer or an explainer works with, besides examples."""

    JUDGE = "judge"
    """An LLM behind an OpenAI-compatible endpoint."""
    HOST = "host"
    """The host model with the SAE in it: the run goes to a GPU worker."""
    EMBEDDER = "embedder"
    """The sentence embedder."""


class Plugin(TypedDict):
    """Where a class from outside the tree is from."""

    module: str
    version: str


class Registered(Part):
    """A part that is one of several, told apart by one field.

    The base of a sort has a ``registry`` of its own.  Validated, or called, it gives an object of
    the class that the field names; a field annotated with it takes all of them.
    """

    registry: ClassVar[Registry[Any]]
    """Where the classes of this sort are."""
    implementation: ClassVar[str] = ""
    """``module:Class`` of what computes with it."""
    version: ClassVar[str] = ""
    """Of a class from outside: another version's results are other results.  Empty within
    monosemy, where prompts and formats have versions of their own."""
    retired: ClassVar[str] = ""
    """Why there is no such thing any more: what is stored is read, nothing new is accepted."""

    def __new__(cls, **data: Any) -> Self:
        if cls._is_base():
            cls = cls.named_in(data)  # itself where there is none: __init__ says so
        return super().__new__(cls)

    @classmethod
    def _is_base(cls) -> bool:
        return "registry" in cls.__dict__

    @classmethod
    def registered_name(cls) -> str:
        """What the field that tells the classes apart holds."""
        return str(cls.model_fields[cls.registry.key].default)

    def options(self, *leave_out: str) -> dict[str, Any]:
        """What differs from the defaults, JSON-able and without the name: for keys, since an option
        added later leaves the keys of what is stored as they are."""
        names = {self.registry.key, *leave_out}
        return self.model_dump(mode="json", exclude=names, exclude_defaults=True)

    def plugins(self) -> list[Plugin]:
        """The classes from outside that take part, for keys and provenance: what they make is no
        other version's.  Empty where all is monosemy's own."""
        own = type(self)
        return [Plugin(module=own.__module__, version=own.version)] if own.version else []

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if cls._is_base():
            return core_schema.with_info_plain_validator_function(cls._of_its_class)
        return handler(source)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        registry = cls.registry
        if cls._is_base():
            choices = {name: each.__pydantic_core_schema__ for name, each in registry.items()}
            return handler(core_schema.tagged_union_schema(choices, lambda _: None))
        described = super().__get_pydantic_json_schema__(schema, handler)
        if registry.key in cls.model_fields and cls.registered_name() != registry.default:
            # Left out, the field means the default: so no other class fits without it.
            body = handler.resolve_ref_schema(described)
            body["required"] = sorted({*body.get("required", []), registry.key})
        return described

    @classmethod
    def named_in(cls, value: Any) -> type[Self]:
        """The class of which ``value`` is; this one where it names none that is known."""
        registry = cls.registry
        name = value.get(registry.key, registry.default) if isinstance(value, Mapping) else None
        return registry.find(registry.default if name is None else name) or cls

    @classmethod
    def _of_its_class(cls, value: Any, info: ValidationInfo) -> Registered:
        if isinstance(value, cls):
            return value
        key = cls.registry.key
        chosen = cls.named_in(value)
        if chosen is cls:
            raise fault(cls, key, cls.registry.unknown(str(value[key])[:NAME]), value[key])
        if chosen.retired and info.context != STORED:
            raise fault(cls, key, chosen.retired, value[key])
        return chosen.model_validate(value, context=info.context)


def fault(cls: type[Registered], key: str, text: str, value: Any) -> ValidationError:
    """What to raise within a validation for ``value`` of the field ``key``."""
    error = PydanticCustomError("unknown_name", "{text}", {"text": text})
    details = InitErrorDetails(type=error, loc=(key,), input=value)
    return ValidationError.from_exception_data(cls.__name__, [details])


def without_flat(cls: type[Registered], data: Any, flat: Mapping[str, Any]) -> Any:
    """``data`` without options of other classes, from when one spec had the options of all.

    They changed nothing and change nothing; other values than their defaults (``flat``) are
    warned of.
    """
    if not isinstance(data, dict):
        return data
    foreign = {key for key in flat if key in data and key not in cls.model_fields}
    for key in foreign:
        option = list(data[key]) if isinstance(data[key], tuple) else data[key]
        if option != flat[key]:
            warnings.warn(
                f"'{key}' is no option of the {cls.registry.noun} {cls.registered_name()}, "
                "and is left out.",
                DeprecationWarning,
                stacklevel=2,
            )
    return {key: value for key, value in data.items() if key not in foreign}


R = TypeVar("R", bound=Registered)


class Registry(Mapping[str, type[R]]):
    """Classes of one sort by name, in the order in which they were added."""

    def __init__(self, noun: str, key: str, default: str) -> None:
        self.noun, self.key, self.default = noun, key, default
        """What one of them is called; the field that holds its name; the name where it is left
        out."""
        self._classes: dict[str, type[R]] = {}

    def add(self, added: type[R]) -> None:
        """``MonosemyError`` for a class that lacks what it must declare, or whose name is taken."""
        field = added.model_fields.get(self.key)
        name = field.default if field is not None else None
        reason = None
        if not isinstance(name, str) or not name:
            reason = f"it needs a field {self.key}: Literal['...'] = '...', its name"
        elif not added.retired and added.implementation.count(":") != 1:
            reason = "it needs an implementation, as 'module:Class'"
        elif not added.version and not added.__module__.startswith("monosemy."):
            reason = "it needs a version: results of another one are kept apart"
        elif not _same(self._classes.get(name, added), added):
            reason = f"there is another {self.noun} of the name '{name}'"
        elif faults := undeclared_fields(added):
            reason = "; ".join(faults)
        if reason is not None:
            raise MonosemyError(f"{added.__qualname__} cannot be registered: {reason}.")
        self._classes[cast(str, name)] = added

    def find(self, name: Any) -> type[R] | None:
        """The class of that name, retired ones included; plugins are loaded before it is given
        up."""
        if not isinstance(name, str):
            return None
        if name not in self._classes:
            load_plugins()
        return self._classes.get(name)

    def unknown(self, name: str) -> str:
        """Says that there is none of this name, and which there are."""
        close = difflib.get_close_matches(name, list(self), n=1, cutoff=0.5)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return f"'{name}' is unknown{hint}; known: {', '.join(self)}"

    def __getitem__(self, name: str) -> type[R]:
        chosen = self.find(name)
        if chosen is None or chosen.retired:
            raise KeyError(name)
        return chosen

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter([name for name, each in self._classes.items() if not each.retired])

    def __len__(self) -> int:
        return len(list(iter(self)))


def _same(before: type[Registered], after: type[Registered]) -> bool:
    """Whether ``after`` is ``before``, perhaps from a notebook's cell that was run again."""
    return (before.__module__, before.__qualname__) == (after.__module__, after.__qualname__)


P = TypeVar("P", bound=Part)


def register(added: type[P]) -> type[P]:
    """Adds an architecture, a scorer, an explainer or a kind of run: a subclass of ``SAESpec``,
    ``ScoringSpec``, ``ExplanationSpec`` or ``RunSpec`` that names its implementation.  Works as a
    decorator.

    ``MonosemyError`` for a class that lacks what it must declare, or whose name is taken.
    """
    if isinstance(added, type) and issubclass(added, Registered) and not added._is_base():
        added.registry.add(added)
    else:
        _register_kind(added)
    registering_modules.add(added.__module__)
    return added


def _register_kind(added: type[Part]) -> None:
    from monosemy.specs.run import RunSpec, register_kind  # which is made of registered parts

    name = getattr(added, "__qualname__", added)
    if not isinstance(added, type) or not issubclass(added, RunSpec):
        raise MonosemyError(
            f"{name} cannot be registered: it is no subclass of SAESpec, ScoringSpec,"
            " ExplanationSpec or RunSpec."
        )
    try:
        register_kind(added)
    except ValueError as error:
        raise MonosemyError(f"{name} cannot be registered: {error}.") from None


def implementation_of(spec: Registered | type[Registered]) -> Any:
    """The class that ``spec`` names; ``MonosemyError`` in one line where it cannot be had."""
    noun, name = spec.registry.noun, spec.registered_name()
    if spec.retired:
        raise MonosemyError(f"The {noun} '{name}': {spec.retired}.")
    return imported(spec.implementation, f"The {noun} '{name}'")
