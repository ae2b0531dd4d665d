"""Faults of a command line: one plain line on standard error, and where to read on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from monosemy.exit_codes import DONE, FAILED
from service.cli.output import say

# Typer brings a click of its own and does not say where it is; before, it was click itself.
_FAULTS: tuple[type[Exception], ...] = tuple(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class PlainGroup(TyperGroup):
    """The root of the commands.  Typer would draw a box of several lines around each fault."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = (args, prog_name, complete_var, False, windows_expand_args)
        if not standalone_mode:
            return super().main(*given, **extra)
        try:
            ended = super().main(*given, **extra)
        except typer.Abort:
            say("Not confirmed; nothing was done.")
            sys.exit(FAILED)
        except _FAULTS as fault:
            text = usage_fault(fault)
            if text:
                say(text)
            sys.exit(getattr(fault, "exit_code", FAILED))
        sys.exit(ended if isinstance(ended, int) else DONE)


def usage_fault(fault: Any) -> str:
    """In one line; nothing where the help has been shown instead."""
    if type(fault).__name__ == "NoArgsIsHelpError":
        return str(fault.message).strip()
    text = " ".join(fault.format_message().split())
    if not text.endswith((".", "?", "!", ")")):
        text += "."
    context = getattr(fault, "ctx", None)
    return text if context is None else f"{text} See '{context.command_path} --help'."
