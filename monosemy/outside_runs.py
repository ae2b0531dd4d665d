"""Runs of kinds from outside: what their declaration names is imported and called."""

from __future__ import annotations

import json
from typing import Any

from monosemy.errors import MonosemyError
from monosemy.progress import Reporter
from monosemy.specs import RunSpec
from monosemy.specs.plugins import imported
from monosemy.workspace import Workspace


def execute_outside(spec: RunSpec, workspace: Workspace, reporter: Reporter) -> dict[str, Any]:
    """The result of the kind's ``implementation``.

    Raises ``MonosemyError`` where that cannot be imported or returns something else than a JSON
    object.
    """
    place = spec.implementation or ""
    result = imported(place, f"The kind of run '{spec.kind}'")(spec, workspace, reporter)
    try:
        json.dumps(result)
    except (TypeError, ValueError) as error:
        raise MonosemyError(f"'{place}' returned what is no JSON: {error}.") from None
    if not isinstance(result, dict):
        raise MonosemyError(f"'{place}' returned no JSON object.")
    return result
