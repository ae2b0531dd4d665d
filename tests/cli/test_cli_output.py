"""What commands print: characters that a terminal would obey, times, endings."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from typer.testing import CliRunner

from monosemy.specs.run_states import ending_in_words
from service.cli import feature_files, runs
from service.cli.following import how_it_ended
from service.cli.main import app
from service.cli.output import moment, printable


@pytest.mark.parametrize("place", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x1B, 0x9B])
def test_no_character_is_obeyed(place: int) -> None:
    assert printable(f"a{chr(place)}b") == "a\ufffdb"


def test_marks_of_a_script_stay() -> None:
    text = "\u05d0\u200e\u0627\u200f\u200d\n\t"
    assert printable(text) == text


def test_a_time_is_for_people() -> None:
    assert moment("2026-12-01T08:29:41.038002Z") == "2026-12-01 08:29 UTC"
    assert moment("2026-12-01T01:00:00+02:00") == "2026-11-30 23:00 UTC"


def test_how_a_run_ended_is_a_sentence() -> None:
    assert ending_in_words("cancelled", "cancelled before it started") == (
        "was cancelled before it started"
    )
    assert ending_in_words("failed", "no room") == "failed: no room"
    run = {"state": "cancelled", "error": "cancelled before it started", "children": []}
    assert how_it_ended(run, ()) == "The run was cancelled before it started"


class Service:
    """Answers as REST does."""

    def get(self, path: str, **_: Any) -> dict[str, Any]:
        return {"run_id": path.split("/")[2], "state": "succeeded", "saes": []}

    def post(self, *_: Any) -> dict[str, Any]:
        return {"path": "/embed/x?token=y", "expires_at": "2026-12-01T08:29:41.038002Z"}


def test_a_run_that_trains_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "connect", Service)
    ended = CliRunner().invoke(app, ["run", "readings", str(uuid.UUID(int=1))])
    assert ended.exit_code == 0 and not ended.stdout and "trains no SAE" in ended.stderr


def test_the_address_of_a_feature_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "connect", Service)
    ended = CliRunner().invoke(app, ["feature", "embed", "demo", "8"])
    assert ended.stdout.endswith("/embed/x?token=y\n") and ended.stdout.startswith("http")
    assert "until 2026-12-01 08:29 UTC" in ended.stderr
