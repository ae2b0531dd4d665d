"""The evaluation of a set of SAEs, as the workers and the notebook both run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monosemy.data.store import prepare_text
from monosemy.errors import DataError
from monosemy.evals.sets import evaluate_set
from monosemy.progress import SILENT, Reporter
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import SaeFolder
from monosemy.specs import EvaluateSetRun
from monosemy.stages import activations, sites_of
from monosemy.workspace import Workspace


def evaluate_set_run(
    spec: EvaluateSetRun,
    saes: Sequence[SaeFolder],
    workspace: Workspace,
    load_host: HostLoader,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Metrics of ``saes``, in the order of their layers, on the held-out documents of the text that
    the first was trained on: see ``evals.sets.evaluate_set``.

    Raises ``DataError`` where they are of several host models, and where an SAE, the host model or
    the text has changed since the training.
    """
    first = saes[0].spec
    host = load_host(first.model)
    for each in saes:
        if each.spec.model.name != first.model.name:
            raise DataError(
                f"The SAEs belong to several host models: {first.model.name}, "
                f"{each.spec.model.name}."
            )
        each.check(host)
    store = prepare_text(first.text, host, workspace, reporter)
    saes[0].check(host, store)
    sites = sites_of([each.spec for each in saes])
    source = activations(first, sites, host, store, workspace)
    try:
        members = [each.hosted(host) for each in saes]
        return evaluate_set(members, source.columns, store, source, spec.evaluation, reporter)
    finally:
        source.close()
