"""``monosemy doctor``"""

from __future__ import annotations

import typer
from rich.text import Text

from service.cli.output import JsonFlag, out, print_json, printable, readable_errors
from service.settings import Settings

_STYLE = {"ok": "green", "warning": "yellow", "failed": "red"}


@readable_errors
def doctor(as_json: JsonFlag = False) -> None:
    """Check this deployment part by part, and say what to mend; exits with 1 where a part fails.

    Example: monosemy doctor
    """
    from service.system.doctor import examine

    findings = []
    for each in examine(Settings()):
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
        print_json([vars(each) for each in findings])
    if any(each.status == "failed" for each in findings):
        raise typer.Exit(1)
