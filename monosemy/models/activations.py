"""Activations of a token store at one place or several, out of host models or a cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.models.activation_cache import ActivationCache, add_model, read_description
from monosemy.models.host import HostModel
from monosemy.models.packing import forward_groups, forward_rows
from monosemy.specs.hooks import HOST, Hook

_VOUCHING_ROWS = 4
_VOUCHING_ERROR = 0.02
"""Relative; rounding to bfloat16 alone makes up to 0.004."""

HostOrLoader = HostModel | Callable[[], HostModel] | None


class ActivationSource:
    """Gives the activations of rows; every token is computed at most once where there is a cache.

    ``sites``: one place or several (``str`` of a ``Hook``), whose activations then stand side by
    side (``columns`` says where) and come from one forward of each host model.  ``host`` may be a
    function that loads it, called on the first row that is not cached, or None where all rows that
    will be asked for are; for places in several host models, one for each role.  They must read the
    store's token ids alike: ``DataError`` for another tokenizer.  ``cache_dir`` is the folder of
    the one place's cache, or a folder per place.  With a cache, values are rounded to bfloat16 also
    on the first read, so that a resumed run sees what the first one saw.
    """

    def __init__(
        self,
        host: HostOrLoader | Mapping[str, HostOrLoader],
        store: TokenStore,
        sites: str | Sequence[str],
        cache_dir: Path | Mapping[str, Path] | None,
        host_rows: int = 16,
    ) -> None:
        self.store = store
        self.sites = [sites] if isinstance(sites, str) else list(sites)
        self.host_rows = host_rows
        self._hosts: dict[str, HostOrLoader] = (
            dict(host) if isinstance(host, Mapping) else {HOST: host}
        )
        for role, model in self._hosts.items():
            if role != HOST and isinstance(model, HostModel):
                self._check_tokens(model)
        if isinstance(cache_dir, Path):
            cache_dir = {self.sites[0]: cache_dir}
        self._caches: dict[str, ActivationCache] = {}
        self.columns: dict[str, slice] = {}
        """Which part of the width is which place."""
        self.width = 0
        for site in self.sites:
            width = self._open(site, cache_dir[site] if cache_dir is not None else None)
            self.columns[site] = slice(self.width, self.width + width)
            self.width += width

    def _open(self, site: str, cache_dir: Path | None) -> int:
        """Opens the place's cache, if it is to have one; its width."""
        hook = Hook.parse(site)
        description = read_description(cache_dir) if cache_dir is not None else None
        if description and (description["text_id"], description["site"]) != (
            self.store.text_id,
            site,
        ):
            description = None
        known = self.store.host_info.get("fingerprint")
        if hook.host == HOST and description and known and description.get("model", known) != known:
            description = None  # begun with another host model than the text's
        if description is None or isinstance(self._hosts.get(hook.host), HostModel):
            host = self._model(hook.host)
            width = host.site_width(hook.site)
            model: str | None = host.fingerprint
            dtype = str(host.dtype).removeprefix("torch.")
        else:
            # The host need not be loaded to know what the cache holds.
            width, dtype = int(description["width"]), str(description["host_dtype"])
            model = description.get("model")
        if cache_dir is not None:
            if (
                description
                and model
                and "model" not in description
                and self._vouched(cache_dir, site, width)
            ):
                add_model(cache_dir, model)
            self._caches[site] = ActivationCache(cache_dir, self.store, site, width, dtype, model)
        return width

    def _vouched(self, cache_dir: Path, site: str, width: int) -> bool:
        """Whether a cache that does not say of which host model it is holds what this one gives
        for some of its rows.  The name of its text already goes by a sample of the weights."""
        description = read_description(cache_dir)
        assert description is not None
        dtype = str(description["host_dtype"])
        cache = ActivationCache(cache_dir, self.store, site, width, dtype)
        try:
            rows = np.arange(self.store.n_rows)
            rows = rows[cache.has(rows)][:_VOUCHING_ROWS]
            if not len(rows):
                return True
            kept, position = cache.read(rows).float(), _positions(self.store, rows)
            fresh = self._compute_at(rows, position, [site]).float().cpu()
        finally:
            cache.close()
        return bool((kept - fresh).norm() <= _VOUCHING_ERROR * fresh.norm())

    @property
    def site(self) -> str:
        """The first place, which where there is one is the only one."""
        return self.sites[0]

    def rows(
        self, rows: Sequence[int] | npt.NDArray[np.integer]
    ) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """Activations ``[n, width]`` (float32, CPU) and flat positions ``[n]`` of whole rows.

        In the order of ``rows``; text only, neither BOS nor padding.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        position = _positions(self.store, wanted)
        if not self._caches:
            return self._compute(wanted, position).float().cpu(), position
        return self._cached(wanted).float(), position

    def raw_rows(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """The activations of ``rows`` as they are: on the host model's device in its dtype, or
        bfloat16 on the CPU where there is a cache.

        Of several host models, on the first's device in the dtype that holds the values of all.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if self._caches:
            return self._cached(wanted)
        return self._compute(wanted, _positions(self.store, wanted))

    def _cached(self, wanted: npt.NDArray[np.int64]) -> Tensor:
        """bfloat16 ``[n, width]``, CPU; what is missing is computed and kept first."""
        have = np.logical_and.reduce([cache.has(wanted) for cache in self._caches.values()])
        missing = np.unique(wanted[~have])
        for part in forward_groups(self.store, missing, self.host_rows):
            for site, acts in self._forward(part, self.sites).items():
                self._caches[site].write(part, acts)
        parts = [self._caches[site].read(wanted) for site in self.sites]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    @property
    def dtype(self) -> torch.dtype | None:
        """Of what ``raw_rows`` gives; None where that is not known before a host model is there."""
        if self._caches:
            return torch.bfloat16
        models = list(self._hosts.values())
        if not all(isinstance(model, HostModel) for model in models):
            return None
        dtypes = {model.dtype for model in models if isinstance(model, HostModel)}
        return dtypes.pop() if len(dtypes) == 1 else torch.float32

    def mlp_rows(self, site: str) -> Tensor:
        """See ``HostModel.mlp_rows``; loads the place's host model where it is not there yet."""
        hook = Hook.parse(site)
        return self._model(hook.host).mlp_rows(hook.site)

    def other_hosts(self) -> dict[str, str]:
        """Fingerprints of the host models besides the text's own, by role."""
        roles = {Hook.parse(site).host for site in self.sites} - {HOST}
        return {role: self._model(role).fingerprint for role in sorted(roles)}

    def cached_share(self) -> float:
        """Share of the store's tokens that need no forward any more."""
        return min((cache.share() for cache in self._caches.values()), default=0.0)

    def flush(self) -> None:
        """Makes sure that everything computed so far outlives a crash."""
        for cache in self._caches.values():
            cache.flush()

    def close(self) -> None:
        """Flushes and closes the caches."""
        for cache in self._caches.values():
            cache.close()

    def _model(self, role: str) -> HostModel:
        host = self._hosts.get(role)
        if host is None:
            which = "host model" if role == HOST else f"host model '{role}'"
            raise DataError(
                f"Not all activations at {', '.join(self.sites)} are cached, "
                f"and no {which} was given."
            )
        if callable(host):
            host = self._hosts[role] = host()
            self._check_host(role, host)
        return host

    def _check_tokens(self, host: HostModel) -> None:
        """Another model than the one that cut the text must mean the same by its token ids."""
        parts = self.store.host_info.get("parts") or {}
        known, own = parts.get("tokenizer"), host.stamp.parts.get("tokenizer")
        if known is not None and own != known:
            raise DataError(
                f"{host.name} reads other token ids than the text was cut into.",
                "Take host models that share a tokenizer.",
            )

    def _check_host(self, role: str, host: HostModel) -> None:
        """The caches were opened before the host was there."""
        if role != HOST:
            self._check_tokens(host)
        for site, cache in self._caches.items():
            if Hook.parse(site).host != role:
                continue
            if cache.model is not None and cache.model != host.fingerprint:
                raise DataError(
                    f"The cached activations at {', '.join(self.sites)} are of another host model "
                    f"than {host.name} is now.",
                    "Put the model back, or start again.",
                )

    def _forward(self, rows: npt.NDArray[np.int64], sites: Sequence[str]) -> dict[str, Tensor]:
        """Activations of rows at each place: one forward of each host model."""
        roles: dict[str, dict[str, str]] = {}
        for site in sites:
            hook = Hook.parse(site)
            roles.setdefault(hook.host, {})[hook.site] = site
        return {
            place_of[site]: acts
            for role, place_of in roles.items()
            for site, acts in forward_rows(
                self._model(role), self.store, rows, list(place_of)
            ).items()
        }

    def _compute(self, rows: npt.NDArray[np.int64], position: npt.NDArray[np.int64]) -> Tensor:
        """Activations at ``position``, the tokens of ``rows``, where the host model has them and in
        its dtype; nothing is kept."""
        return self._compute_at(rows, position, self.sites)

    def _compute_at(
        self, rows: npt.NDArray[np.int64], position: npt.NDArray[np.int64], sites: Sequence[str]
    ) -> Tensor:
        parts, order = [], []
        for part in forward_groups(self.store, rows, self.host_rows):
            acts = self._forward(part, sites)
            device = acts[sites[0]].device
            parts.append(torch.cat([acts[site].to(device) for site in sites], dim=1))
            order.append(part)
        if not parts:
            return torch.empty(0, self.width)
        computed = torch.cat(parts)
        if self.store.row_sequence is None:
            return computed
        there = _positions(self.store, np.concatenate(order))
        sorting = np.argsort(there)
        places = sorting[np.searchsorted(there[sorting], position)]
        return computed[torch.from_numpy(places).to(computed.device)]


def _positions(store: TokenStore, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Flat positions of the tokens of whole rows."""
    start, end = store.row_start[rows], store.row_start[rows + 1]
    spans = [np.arange(a, b) for a, b in zip(start, end, strict=True)]
    return np.concatenate(spans) if spans else np.empty(0, dtype=np.int64)
