"""A task run: the SAEs that a spec names, opened in one host model, and evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monosemy.circuits.supervised.evaluate import TaskSae, evaluate_task
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.sae_folder import NamedFolder
from monosemy.specs import ModelSpec, TaskRun
from monosemy.specs.rest.tasks import TaskResult


def run_task(
    spec: TaskRun,
    saes: Sequence[NamedFolder],
    load_host: Callable[[ModelSpec], HostModel],
    reporter: Reporter = SILENT,
) -> TaskResult:
    """Raises ``DataError`` for SAEs of several host models or of several sites each, for one whose
    files or host model have changed, and as ``evaluate_task`` does."""
    model = spec.model or saes[0].folder.spec.model
    host = load_host(model)
    opened = []
    for each in saes:
        each.folder.check(host)
        hosted = each.folder.hosted(host)
        if hosted.hooks.transcodes or len(hosted.hooks.reads) > 1:
            raise DataError(
                f"The SAE '{each.name}' writes elsewhere than it reads, or at several places.",
                "A task takes SAEs that read and write one site.",
            )
        folder = each.folder
        opened.append(TaskSae(each.name, each.reference, hosted.site, folder.sae, folder.baseline))
    return evaluate_task(host, opened, spec, reporter)
