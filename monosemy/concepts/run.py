"""A concept run: the SAE that a spec names, opened in its host model, and a concept found in it."""

from __future__ import annotations

from collections.abc import Callable

from monosemy.concepts.fit import fit_concept
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.sae_folder import SaeFolder, prepends_bos
from monosemy.specs import ConceptRun, ModelSpec
from monosemy.specs.rest.concepts import ConceptResult


def run_concept(
    spec: ConceptRun,
    folder: SaeFolder,
    load_host: Callable[[ModelSpec], HostModel],
    reporter: Reporter = SILENT,
) -> ConceptResult:
    """``DataError`` for an SAE whose files or host model have changed, and as ``fit_concept``."""
    host = load_host(folder.spec.model)
    folder.check(host)
    hosted = folder.hosted(host)
    return fit_concept(hosted, spec, prepends_bos(folder.path), folder.digest, reporter)
