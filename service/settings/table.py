"""The table of settings in docs/settings.md: ``python -m service.settings.table`` writes it."""

from __future__ import annotations

import sys

from service.settings import Settings


def settings_table() -> str:
    """One Markdown row per setting: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        default_text = "" if default is None else f"`{default}`"
        if name == "home":
            default_text = "`~/.monosemy`"
        meaning = " ".join((field.description or "").split())
        rows.append(f"| `MONOSEMY_{name.upper()}` | {default_text} | {meaning} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(settings_table())
