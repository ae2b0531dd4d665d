"""The argument of commands on one stored graph."""

from __future__ import annotations

from typing import Annotated

import typer

GraphArgument = Annotated[str, typer.Argument(help="Name or id of the graph.")]
