"""A real browser over a real server: Chromium by Playwright, cut off from the network.

Where Chromium or Playwright is missing the tests are skipped with the reason, unless
``MONOSEMY_REQUIRE_BROWSER=1`` makes that a failure.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The shell comes first: the same engine, and a page costs it a quarter of the CPU."""
ARGUMENTS = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",)
TELEPHONE = {"width": 390, "height": 800}
WIDE = {"width": 1440, "height": 900}
PATIENCE_MS = 30_000
"""A busy machine takes its time."""


def missing() -> str | None:
    """Why there is no browser here; None where there is one."""
    if chromium() is None:
        return "no Chromium (apt-get install chromium)"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "no Playwright (pip install 'monosemy[dev]')"
    return None


def chromium() -> str | None:
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Any]:
    """The browser; skips, or fails where one is required."""
    why = missing()
    if why is not None:
        if os.environ.get("MONOSEMY_REQUIRE_BROWSER") == "1":
            pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=list(ARGUMENTS), timeout=120_000
        )
        yield browser
        browser.close()


def holds(field: Any, value: str) -> None:
    """Asserts that a field comes to hold ``value``: scripts fill fields after a page is shown."""
    from playwright.sync_api import expect

    expect(field).to_have_value(value, timeout=PATIENCE_MS)


@dataclass
class Watch:
    """What a page must not do, noted as it happens."""

    host: str
    faults: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    """Beginnings of console errors that the test expects, such as a refused request's."""

    def follow(self, page: Any) -> None:
        for event, note in self._notes().items():
            page.on(event, note)

    @contextmanager
    def over(self, page: Any) -> Iterator[Watch]:
        """Follows ``page`` for a while."""
        notes = self._notes()
        for event, note in notes.items():
            page.on(event, note)
        yield self
        for event, note in notes.items():
            page.remove_listener(event, note)

    def _notes(self) -> dict[str, Callable[[Any], None]]:
        return {
            "console": self._console,
            "pageerror": lambda error: self.faults.append(f"script error: {error}"),
            "request": self._request,
            "dialog": self._dialog,
        }

    def check(self) -> None:
        assert not self.faults, "\n".join(self.faults)

    def _console(self, message: Any) -> None:
        # Chromium tells of violations of the policy as errors too.
        if message.type != "error":
            return
        if not any(message.text.startswith(each) for each in self.allowed):
            self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _request(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != self.host:
            self.faults.append(f"a request left the machine: {request.url}")

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "confirm":
            dialog.accept()
        else:
            self.faults.append(f"a dialog: {dialog.message}")
            dialog.dismiss()


TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_AXE = """tags => axe.run({
  runOnly: { type: "tag", values: tags },
  resultTypes: ["violations"],  // of what passes nobody wants every element
}).then(found => found.violations.flatMap(each => each.nodes.slice(0, 3).map(node =>
  `${each.id}: ${each.help} at ${node.target}: ${(node.failureSummary ?? "").slice(0, 300)}`)))"""


def violations(page: Any) -> list[str]:
    """What axe finds wrong with ``page`` (WCAG 2.2 AA, best practices), one line each."""
    from axe_playwright_python.base import AXE_SCRIPT

    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE_SCRIPT)
    violated: list[str] = page.evaluate(_AXE, list(TAGS))
    return violated


def until(page: Any, true: Callable[[], bool], seconds: float = PATIENCE_MS / 1000) -> float:
    """Seconds until it is; the page's own clockwork goes on meanwhile.  (A condition in the page
    itself would have to be compiled there, which the policy forbids.)"""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not come"
        page.wait_for_timeout(20)
    return time.monotonic() - began


def scrolls_sideways(page: Any) -> bool:
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


def here(page: Any) -> str:
    """A page's address as the page itself has it: ``page.url`` lags behind what scripts put
    there."""
    return str(page.evaluate("location.href"))


def asked(page: Any) -> dict[str, list[str]]:
    """The parameters of a page's address."""
    return parse_qs(urlsplit(here(page)).query)
