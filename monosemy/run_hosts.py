"""The host models of a run: its own, and those that its spec names by role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec, TrainRun
from monosemy.specs.hooks import HOST

HostLoader = Callable[[ModelSpec], HostModel]
Hosts = Mapping[str, HostModel]
"""The host models of a run by role, ``HOST`` its own."""


def load_hosts(spec: TrainRun, load_host: HostLoader) -> dict[str, HostModel]:
    """The host models of a run, by role; ``DataError`` for those that do not share a tokenizer."""
    hosts = {HOST: load_host(spec.model)}
    for each in spec.hosts or []:
        host = hosts[each.role] = load_host(each.model)
        if host.stamp.parts.get("tokenizer") != hosts[HOST].stamp.parts.get("tokenizer"):
            raise DataError(
                f"{host.name} reads other token ids than {hosts[HOST].name}.",
                "Take host models that share a tokenizer.",
            )
    return hosts


def others_info(hosts: Hosts) -> dict[str, Any]:
    """What a provenance says of the host models besides the run's own."""
    others = {role: host.info() for role, host in hosts.items() if role != HOST}
    return {"hosts": others} if others else {}


def fingerprints(hosts: Hosts) -> dict[str, Any]:
    """Those of the host models besides the run's own, for what is made of all of them."""
    others = {role: host.fingerprint for role, host in hosts.items() if role != HOST}
    return {"host_fingerprints": others} if others else {}
