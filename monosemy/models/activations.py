"""Activations of a token store at one site, out of the host model or its cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.models.activation_cache import ActivationCache, read_description
from monosemy.models.host import HostModel

HostOrLoader = HostModel | Callable[[], HostModel] | None


class ActivationSource:
    """Gives the activations of rows; every token is computed at most once where there is a cache.

    ``host`` may be a function that loads it, called on the first row that is not cached, or None
    where all rows that will be asked for are.  With a cache, values are rounded to bfloat16 also on
    the first read, so that a resumed run sees what the first one saw.
    """

    def __init__(
        self,
        host: HostOrLoader,
        store: TokenStore,
        site: str,
        cache_dir: Path | None,
        host_rows: int = 16,
    ) -> None:
        self.store = store
        self.site = site
        self.host_rows = host_rows
        self._host = host
        self._cache: ActivationCache | None = None
        found = read_description(cache_dir) if cache_dir is not None else None
        if found and (found["text_id"], found["site"]) != (store.text_id, site):
            found = None
        if found is None or (host is not None and not callable(host)):
            self.width = self._model().site_width(site)
            dtype = str(self._model().dtype).removeprefix("torch.")
        else:
            # The host need not be loaded to know what the cache holds.
            self.width, dtype = int(found["width"]), str(found["host_dtype"])
        if cache_dir is not None:
            self._cache = ActivationCache(Path(cache_dir), store, site, self.width, dtype)

    def rows(
        self, rows: Sequence[int] | npt.NDArray[np.integer]
    ) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """Activations ``[n, width]`` (float32, CPU) and flat positions ``[n]`` of whole rows.

        In the order of ``rows``; text only, neither BOS nor padding.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        start, end = self.store.row_start[wanted], self.store.row_start[wanted + 1]
        spans = [np.arange(a, b) for a, b in zip(start, end, strict=True)]
        position = np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)
        if self._cache is None:
            return self._compute(wanted).float().cpu(), position
        missing = np.unique(wanted[~self._cache.has(wanted)])
        for at in range(0, len(missing), self.host_rows):
            part = missing[at : at + self.host_rows]
            self._cache.write(part, self._forward(part))
        return self._cache.read(wanted).float(), position

    def cached_share(self) -> float:
        """Share of the store's tokens that need no forward any more."""
        return 0.0 if self._cache is None else self._cache.share()

    def flush(self) -> None:
        """Makes sure that everything computed so far outlives a crash."""
        if self._cache is not None:
            self._cache.flush()

    def close(self) -> None:
        """Flushes and closes the cache."""
        if self._cache is not None:
            self._cache.close()

    def _model(self) -> HostModel:
        if self._host is None:
            raise DataError(
                f"Not all activations at {self.site} are cached, and no host model was given."
            )
        if callable(self._host):
            self._host = self._host()
        return self._host

    def _compute(self, rows: npt.NDArray[np.int64]) -> Tensor:
        parts = [
            self._forward(rows[at : at + self.host_rows])
            for at in range(0, len(rows), self.host_rows)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.width)

    def _forward(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """``[n, width]`` of the text in at most ``host_rows`` rows, in the model's dtype."""
        host = self._model()
        batch = self.store.batch(rows)
        acts_BSD = host.capture(
            torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS), [self.site]
        )[self.site]
        return acts_BSD[torch.from_numpy(batch.real_BS).to(acts_BSD.device)]
