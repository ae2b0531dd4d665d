"""Warm host models and SAEs, and what is asked of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae
from monosemy.interp.embedder import Embedder
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace

MAX_TOKENS = 2048
_MAX_HOSTS = 2
_MAX_SAES = 8

T = TypeVar("T")


@dataclass
class _WarmHost:
    """A host model with the one thread that runs it: module hooks never meet another request's."""

    host: HostModel
    thread: ThreadPoolExecutor


class InferenceEngine:
    """Loads on first use, keeps the most recently used few.  Thread-safe."""

    def __init__(self, workspace: Workspace, embedder: str, device: str = "auto") -> None:
        self._workspace, self._embedder_name, self._device = workspace, embedder, device
        self._hosts: OrderedDict[str, _WarmHost] = OrderedDict()
        self._saes: OrderedDict[str, SAE] = OrderedDict()
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()
        self._embed_lock = threading.Lock()

    def activations(
        self,
        model: ModelSpec,
        path: str,
        site: str,
        text: str,
        top_k: int,
        features: Sequence[int] | None,
    ) -> dict[str, Any]:
        """Per token of ``text``: its strongest features, or the chosen ones that fire.

        BOS is put before the text, as in training, and not shown.  ``DataError`` for an empty or
        too long text and for features that do not exist; ``ModelError`` and ``UnknownSite`` too.
        """
        warm = self._host(model)
        return warm.thread.submit(
            self._activations, warm.host, path, site, text, top_k, features
        ).result()

    def has_sae(self, path: str) -> bool:
        """Whether there is an SAE folder at ``path`` under the artifact root."""
        return (self._workspace.locate(path) / "cfg.json").is_file()

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text."""
        with self._embed_lock:
            if self._embedder is None:
                self._embedder = Embedder.load(self._embedder_name)
            return [[float(x) for x in row] for row in self._embedder.embed(texts)]

    def _activations(
        self,
        host: HostModel,
        path: str,
        site: str,
        text: str,
        top_k: int,
        features: Sequence[int] | None,
    ) -> dict[str, Any]:
        sae = self._sae(path)
        if features is not None and not all(0 <= f < sae.d_sae for f in features):
            raise DataError(f"A feature does not exist; this SAE has 0 to {sae.d_sae - 1}.")
        ids = host.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids or len(ids) > MAX_TOKENS:
            raise DataError(f"The text has {len(ids)} tokens; 1 to {MAX_TOKENS} can be read.")
        lead = [host.bos_id] if host.bos_id is not None else []
        row = torch.tensor([lead + ids])
        with torch.no_grad():
            acts = host.capture(row, torch.ones_like(row), [site])[site][0, len(lead) :]
            codes = sae.encode(acts.float().cpu())
        pieces = host.token_bytes().pieces(ids)
        wanted = None if features is None else set(features)
        shown = [
            _strongest(indices, values, top_k, wanted)
            for indices, values in zip(codes.indices.tolist(), codes.values.tolist(), strict=True)
        ]
        tokens = [{"id": i, "text": piece} for i, piece in zip(ids, pieces, strict=True)]
        return {"tokens": tokens, "features": shown}

    def _host(self, spec: ModelSpec) -> _WarmHost:
        if spec.device == "auto":
            spec = spec.model_copy(update={"device": self._device})

        def load() -> _WarmHost:
            host = HostModel.load(spec, self._workspace)
            return _WarmHost(host, ThreadPoolExecutor(1, thread_name_prefix="host"))

        return self._warm(self._hosts, spec.model_dump_json(), load, _MAX_HOSTS)

    def _sae(self, path: str) -> SAE:
        return self._warm(
            self._saes, path, lambda: load_sae(self._workspace.locate(path)), _MAX_SAES
        )

    def _warm(self, kept: OrderedDict[str, T], key: str, load: Callable[[], T], most: int) -> T:
        with self._lock:
            if key not in kept:
                while len(kept) >= most:
                    kept.popitem(last=False)
                kept[key] = load()
            kept.move_to_end(key)
            return kept[key]


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
