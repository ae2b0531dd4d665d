"""``monosemy doctor``"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.text import Text

from monosemy.exit_codes import FAILED
from monosemy.specs.rest.system import Finding
from service.cli.connect import connect
from service.cli.output import JsonFlag, out, print_json, printable, readable_errors
from service.settings import Settings

_STYLE = {"ok": "green", "warning": "yellow", "failed": "red"}


@readable_errors
def doctor(
    service: Annotated[
        bool,
        typer.Option("--service", help="Ask the service at MONOSEMY_URL to examine itself."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check this deployment part by part, and say what to fix; exits with 1 where a part fails.

    Example: monosemy doctor
    """
    findings = []
    for each in _of_the_service() if service else _from_here():
        findings.append(each)
        if as_json:
            continue
        line = Text.assemble(
            (f"{each.status:>8}", _STYLE[each.status]),
            f"  {each.check:<11}",
            printable(each.detail),
        )
        out.print(line, highlight=False, soft_wrap=True)
        if each.advice:
            out.print(Text(f"{'':21}{printable(each.advice)}", "dim"), soft_wrap=True)
    if as_json:
        print_json([dataclasses.asdict(each) for each in findings])
    if any(each.status == "failed" for each in findings):
        raise typer.Exit(FAILED)


def _from_here() -> Iterable[Finding]:
    from service.system.doctor import examine

    return examine(Settings())


def _of_the_service() -> Iterable[Finding]:
    return connect().findings()
