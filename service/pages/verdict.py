"""What is wrong with a deployment, in one line: the worst of what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from monosemy.figures import plural
from monosemy.specs.rest.system import Findings, Readiness
from service.edge.context import AppContext
from service.pages.viewer import viewer_of


@dataclass(frozen=True)
class Verdict:
    state: Literal["ok", "warning", "failed", "unknown"]
    words: str


async def findings_for(
    request: Request, context: AppContext, patience: float, seconds: float | None = None
) -> Findings | None:
    """For administrators; None for others, and where the look takes longer than ``patience``.
    ``seconds``: for how long an earlier look is good enough."""
    if not viewer_of(request).can("admin"):
        return None
    try:
        return await context.findings.get(patience, seconds)
    except TimeoutError:
        return None


def verdict(readiness: Readiness, findings: Findings | None, looking: bool) -> Verdict:
    """``looking``: the findings are not there yet, rather than not for this viewer.

    A part that does not answer requests counts as failed, whatever the findings call it."""
    silent = [name for name, check in readiness.checks.items() if check.status != "ok"]
    if findings is None:
        if silent:
            return Verdict("failed", f"{', '.join(silent)} not answering")
        words = f"{_listed(list(readiness.checks))} answer"
        if looking:
            return Verdict("unknown", f"{words}; other checks are still being made")
        return Verdict("ok", words)
    names = list(dict.fromkeys([*(each.check for each in findings.items), *silent]))
    failed = {each.check for each in findings.items if each.status == "failed"} | set(silent)
    warned = {each.check for each in findings.items if each.status == "warning"} - failed
    if not failed and not warned:
        return Verdict("ok", f"{plural(len(names), 'check')} made, all passed")
    parts: list[str] = []
    for those, word in ((failed, "failed"), (warned, "warned")):
        if those:
            of = f" of {plural(len(names), 'check')}" if not parts else ""
            listed = ", ".join(name for name in names if name in those)
            parts.append(f"{len(those)}{of} {word}: {listed}")
    words = "; ".join(parts)
    return Verdict("failed" if failed else "warning", words)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
