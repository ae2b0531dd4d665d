"""Warm host models and SAEs, and what is asked of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae
from monosemy.interp.embedder import Embedder
from monosemy.interp.lab import Lab
from monosemy.models.architecture import text_config
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.saes.base import SAE
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from workers.steered_text import Steer, steered_events
from workers.warm import Warm

MAX_TOKENS = 2048
_MAX_HOSTS = 2
_MAX_SAES = 8


class NoSaeFolder(DataError):
    """There is no SAE at that place under the artifact root."""


@dataclass(frozen=True)
class Request:
    """A text and what is asked of it."""

    model: ModelSpec
    path: str
    """SAE folder, relative to the artifact root."""
    site: str
    text: str
    top_k: int
    features: Sequence[int] | None
    """Only these, as far as they fire; None takes the ``top_k`` strongest."""


@dataclass
class _WarmHost:
    """A host model with the one thread that runs it: module hooks never meet another request's."""

    host: HostModel
    thread: ThreadPoolExecutor


@dataclass(frozen=True)
class _WarmSae:
    sae: SAE
    prepend_bos: bool
    """Whether the rows it was trained on began with BOS."""
    target_site: str | None
    """Where a transcoder writes."""


class InferenceEngine:
    """Loads on first use, keeps the most recently used few.  Thread-safe."""

    def __init__(self, workspace: Workspace, embedder: str, device: str = "auto") -> None:
        self._workspace, self._embedder_name, self._device = workspace, embedder, device
        self._hosts: Warm[_WarmHost] = Warm(_MAX_HOSTS)
        self._saes: Warm[_WarmSae] = Warm(_MAX_SAES)
        self._embedder: Embedder | None = None
        self._embed_lock = threading.Lock()

    def activations(self, request: Request) -> dict[str, Any]:
        """``{"tokens": [{"id", "text"}], "features": [[{"index", "activation"}]]}``, by token.

        BOS is put before the text where the SAE was trained so, and not shown.  ``NoSaeFolder``;
        ``DataError`` for an empty or too long text and for features that do not exist;
        ``ModelError`` and ``UnknownSite`` too.
        """
        warm, sae = self._open(request.model, request.path)
        return warm.thread.submit(_activations, warm.host, sae, request).result()

    def steer(
        self, spec: ModelSpec, path: str, site: str, asked: Steer
    ) -> Iterator[dict[str, Any]]:
        """Events of ``steered_events``.  Raises as ``activations`` does, before the first one."""
        warm, sae = self._open(spec, path)
        lab = Lab(warm.host, sae.sae, site, sae.target_site)

        def on_host(work: Callable[[], Any]) -> Any:
            # Turn by turn, so that others get theirs; no hook outlives a turn.
            return warm.thread.submit(work).result()

        longest = _longest(warm.host)
        events = steered_events(lab, sae.prepend_bos, longest, asked, on_host)
        first = next(events)  # what cannot be done is said before anything is
        return chain([first], events)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text."""
        with self._embed_lock:
            if self._embedder is None:
                self._embedder = Embedder.load(self._embedder_name)
            return [[float(x) for x in row] for row in self._embedder.embed(texts)]

    def _open(self, spec: ModelSpec, path: str) -> tuple[_WarmHost, _WarmSae]:
        folder = self._workspace.locate(path)
        try:
            written = (folder / "cfg.json").stat().st_mtime_ns
        except OSError:
            raise NoSaeFolder(
                f"There is no SAE folder '{path}'.", "Was it moved or deleted?"
            ) from None
        warm = self._host(spec)
        device = warm.host.device
        # The time is part of the key: a run that is retried writes its SAE anew.
        key = (path, written, str(device))
        sae = self._saes.get(key, lambda: _open_sae(SaeFolder(folder, self._workspace), device))
        return warm, sae

    def _host(self, spec: ModelSpec) -> _WarmHost:
        if spec.device == "auto":
            spec = spec.model_copy(update={"device": self._device})

        def load() -> _WarmHost:
            host = HostModel.load(spec, self._workspace)
            return _WarmHost(host, ThreadPoolExecutor(1, thread_name_prefix="host"))

        return self._hosts.get(spec.model_dump_json(), load)


def _open_sae(folder: SaeFolder, device: torch.device) -> _WarmSae:
    sae = load_sae(folder.path).to(device).requires_grad_(False)
    told = json.loads((folder.path / "cfg.json").read_text(encoding="utf-8")).get("metadata") or {}
    return _WarmSae(sae, bool(told.get("prepend_bos", True)), folder.target_site)


def _activations(host: HostModel, warm: _WarmSae, request: Request) -> dict[str, Any]:
    sae, features = warm.sae, request.features
    if features is not None and not all(0 <= feature < sae.d_sae for feature in features):
        raise DataError(f"A feature does not exist; this SAE has 0 to {sae.d_sae - 1}.")
    ids = host.tokenizer(request.text, add_special_tokens=False)["input_ids"]
    lead = [host.bos_id] if warm.prepend_bos and host.bos_id is not None else []
    room = _longest(host) - len(lead)
    if not 1 <= len(ids) <= room:
        raise DataError(f"The text has {len(ids)} tokens; 1 to {room} can be read.")
    row_BS = torch.tensor([lead + ids])
    with torch.no_grad():
        captured = host.capture(row_BS, torch.ones_like(row_BS), [request.site])
        acts_ND = captured[request.site][0, len(lead) :].float()
        if acts_ND.shape[1] != sae.d_in:
            raise DataError(
                f"The SAE reads vectors of length {sae.d_in}; {request.site} of {host.name} has "
                f"{acts_ND.shape[1]}."
            )
        codes = sae.encode(acts_ND)
    wanted = None if features is None else set(features)
    strongest = [
        _strongest(indices, values, request.top_k, wanted)
        for indices, values in zip(codes.indices.tolist(), codes.values.tolist(), strict=True)
    ]
    pieces = host.token_bytes().pieces(ids)
    tokens = [{"id": token, "text": piece} for token, piece in zip(ids, pieces, strict=True)]
    return {"tokens": tokens, "features": strongest}


def _longest(host: HostModel) -> int:
    """Tokens that the host model can read at once."""
    limit = getattr(text_config(host.model), "max_position_embeddings", None)
    return min(MAX_TOKENS, limit) if isinstance(limit, int) and limit > 0 else MAX_TOKENS


def _strongest(
    indices: Sequence[int], values: Sequence[float], top_k: int, wanted: set[int] | None
) -> list[dict[str, Any]]:
    found = [
        (value, index)
        for index, value in zip(indices, values, strict=True)
        if value > 0 and (wanted is None or index in wanted)
    ]
    found.sort(key=lambda item: (-item[0], item[1]))
    kept = found if wanted is not None else found[:top_k]
    return [{"index": index, "activation": round(value, 6)} for value, index in kept]
