"""Where an SAE reads and writes: the places of host models at which it is hooked.  No torch.

An SAE reads the activations of one place or several, side by side in the order of ``reads``, and
reconstructs those of ``writes``.  Where both are the same it is an SAE in the narrow sense (a
crosscoder at several places), elsewhere it transcodes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from monosemy.models.sites import FORM, KINDS, MLP_OUT, MLP_RAW, RESID_POST, parse_site
from monosemy.specs.messages import pattern
from monosemy.specs.part import SITE_PATTERN, Part, added_later
from monosemy.specs.references import Plain

HOST = "host"
"""The role of the run's own host model."""

MOST_PLACES = 128
"""Places that one SAE may read or write."""

_PLACE_PATTERN = pattern(
    rf"^([A-Za-z0-9_-]{{1,40}}:)?{SITE_PATTERN.removeprefix('^')}",
    f"a site as blocks.9.{RESID_POST}, or ROLE:blocks.9.{RESID_POST} of another host model"
    f" ({FORM})",
)

PlaceName = Annotated[str, Plain(), Field(pattern=_PLACE_PATTERN, max_length=120)]
"""``blocks.9.hook_resid_post`` of the run's own host model, ``ROLE:blocks...`` of another."""

_SeveralPlaces = Annotated[list[PlaceName], Field(min_length=1, max_length=MOST_PLACES)]


def as_places(value: Any) -> Any:
    """The name of a single place as a list of one."""
    return [value] if isinstance(value, str) else value


Places = Annotated[
    _SeveralPlaces,
    BeforeValidator(as_places, json_schema_input_type=PlaceName | _SeveralPlaces),
]
"""Several places, or the name of a single one."""


class Hook(NamedTuple):
    """One site of one host model; its text is the form that specs, folders and columns use."""

    site: str
    host: str = HOST
    """The role of the host model in the run."""

    def __str__(self) -> str:
        return self.site if self.host == HOST else f"{self.host}:{self.site}"

    @classmethod
    def parse(cls, text: str) -> Hook:
        """The reverse of ``str``; the name of the site is not looked at."""
        host, separator, site = text.rpartition(":")
        return cls(site, host if separator else HOST)

    @property
    def depth(self) -> tuple[int, int]:
        """Sorts the sites of one host model by when they are computed; ``UnknownSite``."""
        layer, kind = parse_site(self.site)
        return layer, KINDS.index(kind)


@dataclass(frozen=True)
class Hooks:
    """The places that an SAE reads and writes.  ``ValueError`` where there are none, or one place
    is named twice in a list."""

    reads: tuple[Hook, ...]
    writes: tuple[Hook, ...]
    widths: Mapping[Hook, int] = field(default_factory=dict, compare=False)
    """Length of the activations at each place, as far as it is known."""

    def __post_init__(self) -> None:
        for name, hooks in (("reads", self.reads), ("writes", self.writes)):
            if not hooks or len(set(hooks)) < len(hooks):
                raise ValueError(f"{name} must name one place or several, each once")

    @classmethod
    def at(cls, reads: str | Iterable[str], writes: str | Iterable[str] | None = None) -> Hooks:
        """By the texts of the places; None writes where it reads."""
        read = _parsed(reads)
        return cls(read, read if writes is None else _parsed(writes))

    @property
    def transcodes(self) -> bool:
        """Whether it reconstructs something else than what it reads."""
        return self.reads != self.writes

    @property
    def places(self) -> tuple[Hook, ...]:
        """All of them, each once, those that are read first."""
        return tuple(dict.fromkeys((*self.reads, *self.writes)))

    @property
    def site(self) -> str:
        """The first place that is read: all there is to say of most SAEs."""
        return str(self.reads[0])

    @property
    def target_site(self) -> str | None:
        """The first place that is written, where that is another list than is read."""
        return str(self.writes[0]) if self.transcodes else None

    def sites(self, host: str = HOST) -> tuple[str, ...]:
        """The sites of one host model, in the order of ``places``."""
        return tuple(hook.site for hook in self.places if hook.host == host)

    @property
    def other_hosts(self) -> tuple[str, ...]:
        """Roles of the host models besides the run's own."""
        return tuple(dict.fromkeys(hook.host for hook in self.places if hook.host != HOST))

    def with_widths(self, width: Callable[[Hook], int]) -> Hooks:
        """The same places, with the ``width`` of each."""
        return replace(self, widths={hook: width(hook) for hook in self.places})

    @cached_property
    def read_parts(self) -> dict[Hook, slice]:
        """Which part of what the SAE takes is which place; ``KeyError`` without widths."""
        return self._parts(self.reads)

    @cached_property
    def written_parts(self) -> dict[Hook, slice]:
        """Which part of what the SAE gives is which place; ``KeyError`` without widths."""
        return self._parts(self.writes)

    def _parts(self, hooks: Sequence[Hook]) -> dict[Hook, slice]:
        if len(hooks) == 1 and hooks[0] not in self.widths:
            return {hooks[0]: slice(0, None)}
        ends = accumulate((self.widths[hook] for hook in hooks), initial=0)
        return {hook: slice(*span) for hook, span in zip(hooks, pairwise(ends), strict=True)}

    @property
    def direction_fault(self) -> str | None:
        """What is wrong where a place is written that is computed before all that are read: nothing
        could be put there from them.  None where nothing is."""
        first: dict[str, Hook] = {}
        for hook in self.reads:
            if hook.host not in first or hook.depth < first[hook.host].depth:
                first[hook.host] = hook
        for hook in self.writes:
            if self.transcodes and hook.host in first and hook.depth < first[hook.host].depth:
                return f"({hook}) comes before the site {first[hook.host]}"
        return None

    def as_dict(self) -> dict[str, list[dict[str, Any]]]:
        """For JSON: under ``reads`` and ``writes`` host, site and width of each place."""
        return {
            name: [
                {"host": hook.host, "site": hook.site, "width": self.widths.get(hook)}
                for hook in hooks
            ]
            for name, hooks in (("reads", self.reads), ("writes", self.writes))
        }

    @classmethod
    def from_dict(cls, data: Any) -> Hooks:
        """The reverse of ``as_dict``, of foreign JSON; ``ValueError`` for anything else."""
        widths: dict[Hook, int] = {}
        lists: dict[str, tuple[Hook, ...]] = {}
        for name in ("reads", "writes"):
            entries = data.get(name) if isinstance(data, Mapping) else None
            if not isinstance(entries, list) or len(entries) > MOST_PLACES:
                raise ValueError(f"hooks hold no list {name}")
            lists[name] = tuple(_entry(entry, widths) for entry in entries)
        return cls(lists["reads"], lists["writes"], widths)


def _parsed(places: str | Iterable[str]) -> tuple[Hook, ...]:
    return tuple(Hook.parse(text) for text in ([places] if isinstance(places, str) else places))


def _entry(entry: Any, widths: dict[Hook, int]) -> Hook:
    site, host = (entry.get("site"), entry.get("host")) if isinstance(entry, Mapping) else (0, 0)
    if not isinstance(site, str) or not isinstance(host, str):
        raise ValueError("a place in hooks needs a host and a site")
    hook, width = Hook(site, host), entry.get("width")
    _ = hook.depth  # UnknownSite is no ValueError, and says what to write
    if isinstance(width, int) and not isinstance(width, bool) and width > 0:
        widths[hook] = width
    return hook


class WritesElsewhere(Part):
    """What the specs share that say where an SAE writes."""

    writes: Places | None = added_later(None)
    """The places that are reconstructed; None takes those that are read."""


class ReadsAndWrites(WritesElsewhere):
    """What the specs share of an SAE at any places."""

    reads: Places | None = added_later(None)
    """The places that are read side by side, where there are several; ``site`` is the first."""


def first_read(data: Any) -> Any:
    """``site`` of a spec that gives ``reads`` alone; ``ValueError`` where both disagree."""
    if not isinstance(data, dict) or not data.get("reads"):
        return data
    reads = data["reads"]
    first = reads if isinstance(reads, str) else reads[0] if isinstance(reads, list) else None
    if not isinstance(first, str):
        return data  # which the field's own validation refuses
    if Hook.parse(first).host != HOST:
        raise ValueError(f"the first of reads ({first}) is no site of the run's own host model")
    if data.get("site") not in (None, first):
        raise ValueError(f"site ({data['site']}) is not the first of reads ({first})")
    return {**data, "site": first}


def checked_hooks(
    sites: Sequence[str],
    writes: Sequence[str] | None,
    sae: Any,
    advise: bool = True,
    roles: Sequence[str] = (),
) -> Hooks:
    """Hooks of the SAE options ``sae`` that reads ``sites``; ``ValueError`` where it cannot.

    ``roles``: of the host models that there are besides the run's own.  ``advise``: whether the
    older word ``sae.target_site`` is warned of.
    """
    target, field_name = getattr(sae, "target_site", None), "writes"
    if target is not None:
        if writes is not None and list(writes) != [target]:
            raise ValueError(f"writes and sae.target_site ({target}) are not the same")
        if advise and writes is None:
            warnings.warn(
                "sae.target_site is deprecated: give the run's writes instead",
                FutureWarning,
                stacklevel=2,
            )
        writes, field_name = [target], "sae.target_site" if writes is None else "writes"
    hooks = Hooks.at(sites, writes)
    unknown = next((role for role in hooks.other_hosts if role not in roles), None)
    if unknown is not None:
        raise ValueError(
            f"'{unknown}' is not known: give its host model in hosts"
            if roles
            else f"a run has one host model, {HOST}, unless hosts has others; "
            f"'{unknown}' is not known"
        )
    idle = next((role for role in roles if role not in hooks.other_hosts), None)
    if idle is not None:
        raise ValueError(f"hosts has '{idle}', and no place of it is read or written")
    fault = hooks.direction_fault
    if fault is not None:
        raise ValueError(f"{field_name} {fault}")
    options = ", ".join(sae.only_elsewhere)
    if options and target is None and not hooks.transcodes:
        raise ValueError(
            f"it reconstructs what it reads, but {options} is of transcoders: give writes"
        )
    by_mlp = len(hooks.writes) == 1 and parse_site(hooks.writes[0].site).kind in (MLP_OUT, MLP_RAW)
    if getattr(sae, "initial_decoder", "random") == "mlp" and not by_mlp:
        raise ValueError(
            f"sae.initial_decoder=mlp starts with what one MLP writes: {MLP_OUT} or {MLP_RAW}"
        )
    sae.at_places(hooks)
    if sae.architecture == "transcoder" and target is None and not hooks.transcodes:
        raise ValueError("a transcoder writes elsewhere than it reads: give writes")
    return hooks
