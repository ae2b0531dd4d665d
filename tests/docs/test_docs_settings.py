"""docs/settings.md lists every setting as it is."""

from __future__ import annotations

from pathlib import Path

from service.settings.table import settings_table

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert settings_table() in page, "run: python -m service.settings.table"


def test_every_setting_is_explained() -> None:
    for row in settings_table().splitlines()[2:]:
        assert len(row.split("|")[3].strip()) > 10, row
