"""Requests of the audit log in words: what was done, and to what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from monosemy.address import PREFIX
from monosemy.specs.rest.audit import AuditView

DEEDS: dict[tuple[str, str], str] = {
    ("POST", "/runs"): "submitted a run",
    ("POST", "/runs/new"): "submitted a run",
    ("PATCH", "/runs/{run_id}"): "changed a run's priority",
    ("POST", "/runs/{run_id}/priority"): "changed a run's priority",
    ("DELETE", "/runs/{run_id}"): "deleted a run",
    ("POST", "/runs/{run_id}/delete"): "deleted a run",
    ("POST", "/runs/{run_id}/cancel"): "cancelled a run",
    ("POST", "/runs/{run_id}/retry"): "retried a run",
    ("PATCH", "/queues/{name}"): "paused, resumed or limited a queue",
    ("POST", "/queues/{name}"): "paused or resumed a queue",
    ("POST", "/saes/{sae}/features/{index}/explanations"): "wrote or ordered an explanation",
    ("POST", "/saes/{sae}/features/{index}/scores"): "ordered scores",
    ("POST", "/explanations/{explanation}/scores"): "stored a score",
    ("DELETE", "/explanations/{explanation}"): "deleted an explanation",
    ("PUT", "/explanations/{explanation}/vote"): "voted on an explanation",
    ("POST", "/explanations/{explanation}/sittings"): "began a detection test",
    ("PUT", "/sittings/{sitting}/answers/{number}"): "answered a detection test",
    ("DELETE", "/sittings/{sitting}/answers/{number}"): "took back an answer",
    ("POST", "/sittings/{sitting}/score"): "ended a detection test",
    ("DELETE", "/sittings/{sitting}"): "deleted a detection test",
    ("POST", "/saes/{sae}/features/{index}/tags"): "tagged a feature",
    ("DELETE", "/saes/{sae}/features/{index}/tags/{tag}"): "took a tag off a feature",
    ("POST", "/lists"): "began a list",
    ("PATCH", "/lists/{list}"): "renamed or described a list",
    ("DELETE", "/lists/{list}"): "deleted a list",
    ("POST", "/lists/{list}/entries"): "added to a list",
    ("POST", "/lists/{list}/entries/remove"): "took out of a list",
    ("POST", "/lists/{list}/entries/move"): "reordered a list",
    ("DELETE", "/saes/{sae}"): "deleted an SAE",
    ("POST", "/saes/{sae}/delete"): "deleted an SAE",
    ("POST", "/sets"): "made a set",
    ("POST", "/sets/new"): "made a set",
    ("DELETE", "/sets/{set}"): "deleted a set",
    ("POST", "/sets/{set}/delete"): "deleted a set",
    ("DELETE", "/comparisons/{comparison}"): "deleted a comparison",
    ("DELETE", "/tasks/{task}"): "deleted a task",
    ("DELETE", "/benchmarks/{result}"): "deleted a result of a benchmark",
    ("DELETE", "/circuits/{circuit}"): "deleted a circuit",
    ("DELETE", "/concepts/{concept}"): "deleted a concept",
    ("DELETE", "/graphs/{graph}"): "deleted a graph",
    ("POST", "/graphs"): "submitted a run",
    ("POST", "/graphs/upload"): "uploaded a graph",
    ("DELETE", "/judge-tests/{judge_test}"): "deleted a judge's test",
    ("POST", "/saes/uploads"): "uploaded files",
    ("DELETE", "/saes/uploads/{upload}"): "deleted an upload",
    ("POST", "/keys"): "made an API key",
    ("POST", "/settings/keys"): "made an API key",
    ("DELETE", "/keys/{key}"): "revoked an API key",
    ("POST", "/settings/keys/{key}/revoke"): "revoked an API key",
    ("POST", "/sessions"): "logged in",
    ("POST", "/login"): "logged in",
    ("DELETE", "/sessions/current"): "logged out",
    ("POST", "/logout"): "logged out",
    ("DELETE", "/sessions/{session_id}"): "ended a session",
    ("POST", "/settings/sessions/{session_id}/end"): "ended a session",
}
_PAGES = (
    (re.compile(r"/saes/([^/]+)/features/(\d+)"), "/saes/{}/features/{}", "feature {1} of {0}"),
    (re.compile(r"/saes/([^/]+)"), "/saes/{}", "{0}"),
    (re.compile(r"/sets/(?!new$)([^/]+)"), "/sets/{}", "{0:.40}"),
    (re.compile(r"/runs/([0-9a-f-]{36})"), "/runs/{}", "{0:.8}"),
    (re.compile(r"/lists/([^/]+)"), "/lists/{}", "{0:.40}"),
    (re.compile(r"/comparisons/([0-9a-f-]{36})"), "/comparisons/{}", "{0:.8}"),
    (re.compile(r"/concepts/([^/]+)"), "/concepts/{}", "{0:.40}"),
    (re.compile(r"/graphs/([^/]+)"), "/graphs/{}", "{0:.40}"),
    (re.compile(r"/tasks/([0-9a-f-]{36})"), "/tasks/{}", "{0:.8}"),
    (re.compile(r"/benchmarks/([0-9a-f-]{36})"), "/benchmarks/{}", "{0:.8}"),
    (re.compile(r"/circuits/([0-9a-f-]{36})"), "/circuits/{}", "{0:.8}"),
    (re.compile(r"/queues/([^/]+)"), "/health", "{0}"),
)


@dataclass(frozen=True)
class Deed:
    """Requests of one caller that follow each other and did the same, the newest first."""

    words: str
    """The request itself where it is not known here."""
    page: str | None
    """Of what it was done to; None where that is known to be gone."""
    what: str
    entries: list[AuditView]

    @property
    def newest(self) -> AuditView:
        return self.entries[0]

    @property
    def oldest(self) -> AuditView:
        return self.entries[-1]


def deeds_of(entries: Sequence[AuditView]) -> list[Deed]:
    deeds: list[Deed] = []
    gone: set[str] = set()
    for entry in entries:
        words, page, what = _told(entry)
        if page is not None and words.startswith("deleted") and entry.status < 400:
            gone.add(page)
        page = None if page in gone else page
        last = deeds[-1] if deeds else None
        if last is not None and (words, page, what) == (last.words, last.page, last.what):
            of = last.newest
            if (of.key_id, of.client, of.status) == (entry.key_id, entry.client, entry.status):
                last.entries.append(entry)
                continue
        deeds.append(Deed(words, page, what, [entry]))
    return deeds


def _told(entry: AuditView) -> tuple[str, str | None, str]:
    """(deed, page of what it was done to, name of that)"""
    words = DEEDS.get((entry.method, entry.route.removeprefix(PREFIX)))
    if words is None:
        return f"{entry.method} {entry.path}", None, ""
    for pattern, page, name in _PAGES:
        if match := pattern.match(entry.path.removeprefix(PREFIX)):
            if match[1] in ("new", "upload", "uploads"):
                break
            values = [unquote(each) for each in match.groups()]
            return words, page.format(*values), name.format(*values)
    return words, None, ""
