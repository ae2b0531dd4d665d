"""Files of what a library holds."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from monosemy import arguments
from monosemy.client.library import SaeReference, feature_path, sae_name, sae_names, sae_path
from monosemy.client.transport import Transport, segment


class Exports:
    """``client.exports``; every method writes a file, gives its size, raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def features(self, sae: SaeReference, to: str | Path, *, scorer: str | None = None) -> int:
        """All features with statistics, evidence label, best explanation and its scores: parquet,
        or an Arrow stream where the name ends in ``.arrow``."""
        path = f"{sae_path(sae)}/features.{_form(to)}"
        return self._http.download(path, Path(to), scorer=scorer)

    def page(self, sae: SaeReference, index: int | None, to: str | Path) -> int:
        """One feature, or (None) the first 500 of an SAE in short, as one file of HTML without
        scripts."""
        path = sae_path(sae) if index is None else feature_path(sae, index)
        return self._http.download(f"{path}/page", Path(to))

    def list_page(self, name: str | uuid.UUID, to: str | Path) -> int:
        """The first 500 entries of a list in short, as one file of HTML without scripts."""
        return self._http.download(f"/lists/{segment(name)}/page", Path(to))

    def activations(
        self, sae: SaeReference, to: str | Path, *, features: Sequence[int] | None = None
    ) -> int:
        """One row per token on which a feature fires."""
        path = f"{sae_path(sae)}/activations.{_form(to)}"
        chosen = None if features is None else arguments.features("features", features) or None
        return self._http.download(path, Path(to), features=chosen)

    def report(
        self, sae: SaeReference, to: str | Path, *, reference: SaeReference | None = None
    ) -> int:
        """The report on an SAE's scores, drawn: one page without scripts."""
        other = None if reference is None else sae_name(reference)
        return self._http.download(f"{sae_path(sae)}/report/page", Path(to), reference=other)

    def report_beside(
        self, sae: SaeReference, others: Sequence[SaeReference], to: str | Path
    ) -> int:
        """An SAE's scores beside those of others or of bases, drawn: one page without scripts."""
        path = f"{sae_path(sae)}/report/beside/page"
        return self._http.download(path, Path(to), other=sae_names("others", others))


def _form(to: str | Path) -> str:
    return "arrow" if Path(to).suffix == ".arrow" else "parquet"
