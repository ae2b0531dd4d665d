"""Warm host models and SAEs, and the requests that they answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

import torch

from monosemy.changes import folder_stamp
from monosemy.errors import DataError
from monosemy.formats.saelens import load_sae
from monosemy.interp.embedder import Embedder, embedder_folder
from monosemy.models.host import HostModel
from monosemy.models.precision import choose_device
from monosemy.models.resolve import expected_bytes, files_of, locate, open_tokenizer
from monosemy.sae_folder import SaeFolder, prepends_bos
from monosemy.specs import ModelSpec
from monosemy.specs.inference.activations import ActivationsAnswer, SaeCall, TokenizeAnswer
from monosemy.specs.inference.attention import AttentionAnswer, AttentionCall
from monosemy.specs.inference.contrast import ContrastAnswer
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphHeadsCall,
    GraphScore,
    GraphScoreCall,
)
from monosemy.specs.inference.graph_steering import GraphSteerCall, GraphSteered
from monosemy.specs.inference.prompts import SaePlace
from monosemy.specs.inference.steering import SteerEvent
from monosemy.workspace import Workspace, fingerprint
from workers.attending import attended
from workers.contrasting import Contrasted, contrasted
from workers.failures import is_out_of_memory
from workers.graph_heads import graph_heads, graph_score
from workers.graph_steering import graph_steered
from workers.memory import default_budget, file_bytes, weight_bytes
from workers.prompts import Prompt, Tokenizing
from workers.reading import Wanted, WarmSae, activations
from workers.steered_text import Steer, steered_events
from workers.warm import Warm
from workers.warm_host import WarmHost

logger = logging.getLogger(__name__)

_MAX_TOKENIZERS = 4
"""Of models whose weights are not loaded."""


_MAX_CHECKED = 1000
"""Pairs of SAE and host model that are remembered as fitting."""


class NoSaeFolder(DataError):
    """There is no SAE at that place under the artifact root."""


@dataclass(frozen=True)
class _Opened:
    """What one request holds; ``keys`` are not let go for it."""

    host: WarmHost
    saes: list[WarmSae]
    keys: set[Hashable]


class InferenceEngine:
    """Loads on first use; keeps what was used last, within ``budget`` bytes.  Thread-safe.

    Without a budget it is a share of the device's memory (``memory.default_budget``).
    """

    def __init__(
        self,
        workspace: Workspace,
        embedder: str,
        device: str = "auto",
        budget: int | None = None,
        allowed: int | None = None,
        check: Callable[[str], None] | None = None,
    ) -> None:
        """``allowed``: bytes that one host model may take.  ``check`` raises for the name of one
        that must not be read, whoever asks."""
        self._allowed, self._check_path = allowed, check
        self._workspace, self._embedder_name, self._device = workspace, embedder, device
        if budget is None:
            budget = default_budget(choose_device(device))
        self._warm: Warm[WarmHost | WarmSae] = Warm(budget, _bytes)
        self._tokenizers: Warm[Tokenizing] = Warm(_MAX_TOKENIZERS)
        self._checked: set[Hashable] = set()
        self._embedder: tuple[Hashable, Embedder] | None = None
        """With the stamp of its files."""
        self._embed_lock = threading.Lock()

    @property
    def budget(self) -> int:
        """Bytes that warm host models and SAEs may take."""
        return self._warm.budget

    def warm_counts(self) -> dict[str, int]:
        """How many host models and SAEs are warm."""
        values = self._warm.values()
        saes = sum(isinstance(value, WarmSae) for value in values)
        return {"model": len(values) - saes, "sae": saes}

    @property
    def warm_bytes(self) -> int:
        """What warm host models and SAEs take."""
        return self._warm.used

    def activations(
        self,
        spec: ModelSpec,
        saes: Sequence[SaeCall],
        prompt: Prompt,
        top_k: int,
        unexplained: bool = False,
        clip: bool = False,
    ) -> ActivationsAnswer:
        """``reading.activations``.  Raises as it does, ``NoSaeFolder``, ``ModelError``;
        where memory runs out, what is not in use is let go first."""
        opened = self._open(spec, saes)
        wanted = [
            Wanted(warm, each.site, each.features, each.only, unexplained)
            for warm, each in zip(opened.saes, saes, strict=True)
        ]
        with self._room(opened.keys):
            return activations(opened.host, prompt, wanted, top_k, clip)

    def contrast(self, spec: ModelSpec, place: SaePlace, request: Contrasted) -> ContrastAnswer:
        """``contrasting.contrasted``.  Raises as it and ``activations`` do."""
        opened = self._open(spec, [place])
        with self._room(opened.keys):
            return contrasted(opened.host, opened.saes[0], place.site, request)

    def attention(self, call: AttentionCall, prompt: Prompt) -> AttentionAnswer:
        """``attending.attended``.  Raises as it and ``activations`` do."""
        opened = self._open(call.model, [call.sae, *call.through])
        with self._room(opened.keys):
            return attended(opened.host, prompt, opened.saes, call)

    def steer_graph(self, call: GraphSteerCall) -> GraphSteered:
        """``graph_steering.graph_steered``.  Raises as it and ``activations`` do."""
        opened = self._open(call.model, call.saes)
        with self._room(opened.keys):
            return graph_steered(opened.host, opened.saes, call)

    def graph_heads(self, call: GraphHeadsCall) -> GraphHeads:
        """``graph_heads.graph_heads``.  Raises as it and ``activations`` do."""
        opened = self._open(call.model, call.saes)
        with self._room(opened.keys):
            return graph_heads(opened.host, opened.saes, call)

    def graph_score(self, call: GraphScoreCall) -> GraphScore:
        """``graph_heads.graph_score``.  Raises as it and ``activations`` do."""
        opened = self._open(call.model, call.saes)
        with self._room(opened.keys):
            return graph_score(opened.host, opened.saes, call)

    def tokenize(self, spec: ModelSpec, path: str | None, prompt: Prompt) -> TokenizeAnswer:
        """``bos`` is what the SAE at ``path`` was trained
        to read before a text, None for a chat.

        Needs the tokenizer alone.  Raises ``NoSaeFolder``, ``ModelError``, and ``DataError`` where
        a chat template is missing or refuses.
        """
        words = self._words(self._placed(spec))
        prepend = path is not None and prepends_bos(self._folder(path)[0])
        tokens = words.pieces(words.encode(prompt))
        bos = words.bos_id if prepend and prompt.messages is None else None
        return TokenizeAnswer(tokens=tokens, bos=None if bos is None else words.pieces([bos])[0])

    def steer(self, spec: ModelSpec, place: SaePlace, request: Steer) -> Iterator[SteerEvent]:
        """Events of ``steered_events``.  Raises as ``activations`` does, before the first one."""
        opened = self._open(spec, [place])
        host, (sae,) = opened.host, opened.saes
        hosted = sae.hosted(host.host)
        # Turn by turn, so that others get theirs; no hook outlives a turn.
        events = steered_events(
            hosted, host.words, sae.prepend_bos, host.longest, request, host.turn
        )
        with self._room(opened.keys):
            first = next(events)  # what cannot be done is said before anything is
        return chain([first], self._going_on(events, opened.keys))

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text."""
        with self._embed_lock:
            files = folder_stamp(embedder_folder(self._embedder_name))
            if self._embedder is None or self._embedder[0] != files:
                self._embedder = files, Embedder.load(self._embedder_name)
            return [[float(x) for x in row] for row in self._embedder[1].embed(texts)]

    def _going_on(self, events: Iterator[SteerEvent], keys: set[Hashable]) -> Iterator[SteerEvent]:
        with self._room(keys):
            yield from events

    def _open(self, spec: ModelSpec, places: Sequence[SaePlace]) -> _Opened:
        spec = self._placed(spec)
        host_key = self._host_key(spec)
        folders = [self._folder(place.path) for place in places]
        # Its files are part of the key: a run that is retried writes its SAE anew.
        sae_keys = [("sae", str(folder), written, spec.device) for folder, written in folders]
        keys: set[Hashable] = {host_key, *sae_keys}
        host = cast(
            WarmHost,
            self._get(host_key, lambda: self._load_host(spec), lambda: self._size(spec), keys),
        )
        saes = []
        for key, (folder, _) in zip(sae_keys, folders, strict=True):
            load = partial(self._load_sae, folder, host.host.device)
            saes.append(cast(WarmSae, self._get(key, load, partial(file_bytes, folder), keys)))
        for key, (folder, _), place in zip(sae_keys, folders, places, strict=True):
            self._check(folder, place, host, (key, host_key))
        return _Opened(host, saes, keys)

    def _check(self, folder: Path, place: SaePlace, host: WarmHost, keys: Hashable) -> None:
        """Raises ``DataError`` where SAE or host model are not those of the SAE's row; once for
        each pair of them as they are now."""
        if place.recorded is None:
            return
        checked = keys, fingerprint(place.recorded)
        if checked in self._checked:
            return
        SaeFolder(folder, self._workspace, place.recorded).check(host.host, renew=False)
        if len(self._checked) >= _MAX_CHECKED:
            self._checked.clear()
        self._checked.add(checked)

    def _words(self, spec: ModelSpec) -> Tokenizing:
        key = self._host_key(spec)
        host = self._warm.loaded(key)
        if isinstance(host, WarmHost):
            return host.words

        def load() -> Tokenizing:
            return Tokenizing(
                open_tokenizer(locate(spec, self._workspace, allowed=self._allowed), spec),
                spec.name,
            )

        return self._tokenizers.get(key, load)

    def _host_key(self, spec: ModelSpec) -> Hashable:
        """Another one once somebody has written to the model's files."""
        return "host", spec.model_dump_json(), files_of(spec)

    def _folder(self, path: str) -> tuple[Path, Hashable]:
        """(place, what changes whenever somebody writes to it)"""
        folder = self._workspace.locate(path)
        if not (folder / "cfg.json").is_file():
            raise NoSaeFolder(f"There is no SAE folder '{path}'.", "Was it moved or deleted?")
        return folder, folder_stamp(folder)

    def _placed(self, spec: ModelSpec) -> ModelSpec:
        if self._check_path is not None:
            self._check_path(spec.name)
        return spec.model_copy(update={"device": self._device}) if spec.device == "auto" else spec

    def _size(self, spec: ModelSpec) -> int:
        """What the host model will take, by its configuration."""
        return expected_bytes(locate(spec, self._workspace, allowed=self._allowed), spec)

    def _load_host(self, spec: ModelSpec) -> WarmHost:
        return WarmHost(HostModel.load(spec, self._workspace, allowed=self._allowed))

    def _load_sae(self, folder: Path, device: torch.device) -> WarmSae:
        sae = load_sae(folder).to(device).requires_grad_(False)
        opened = SaeFolder(folder, self._workspace)
        return WarmSae(sae, prepends_bos(folder), opened.spec.hooks, opened.max_norm)

    def _get(
        self,
        key: Hashable,
        load: Callable[[], WarmHost | WarmSae],
        size: Callable[[], int],
        keys: set[Hashable],
    ) -> WarmHost | WarmSae:
        def loaded() -> WarmHost | WarmSae:
            try:
                return load()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            self._make_room(keys)
            return load()

        expected = size() if self._warm.loaded(key) is None else 0
        return self._warm.get(key, loaded, expected, frozenset(keys))

    @contextmanager
    def _room(self, keys: set[Hashable]) -> Iterator[None]:
        """Where memory runs out, lets go of all that is not in use, for the next try."""
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                self._make_room(keys)
            raise

    def _make_room(self, keys: set[Hashable]) -> None:
        freed = self._warm.let_go(keys)
        logger.warning(
            "out of memory", extra={"let_go_bytes": freed, "kept_bytes": self.warm_bytes}
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _bytes(warm: WarmHost | WarmSae) -> int:
    return weight_bytes(warm.host.model if isinstance(warm, WarmHost) else warm.sae)
