"""The host model: a plain Hugging Face causal LM, or text encoder, with canonical site names.

Plain forwards with hooks that live for one call; see docs of ``architecture`` for how sites are
found, and ``benchmarks/host_hooking.py`` for what this costs beside TransformerBridge.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from monosemy.changes import listed
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import ModelError
from monosemy.models import sites
from monosemy.models.abilities import check_reading, find_abilities
from monosemy.models.architecture import Trunk, find_trunk, linear_weight, prove, text_config
from monosemy.models.fingerprint import (
    ModelStamp,
    changed_parts,
    model_stamp,
    sampled_fingerprint,
)
from monosemy.models.hook_points import Edit, Editor, Recorder
from monosemy.models.inputs import HostInputs
from monosemy.models.norms import FrozenNorm
from monosemy.models.positions import position_limit
from monosemy.models.resolve import locate, open_model, weights_folder
from monosemy.models.short_attention import reading
from monosemy.models.site_map import SiteMap
from monosemy.models.sites import Site
from monosemy.models.sound_weights import check_weights
from monosemy.models.stored_tensors import StoredTensors
from monosemy.models.text_encoders import stored_prefix
from monosemy.models.unload import reload_layers, unload_layers
from monosemy.models.vocabulary import check_tokenizer, pad_id, readable_id
from monosemy.models.weights import final_norm_gain, project_to_residual, unembedding_matrix
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace


class OpenHost(NamedTuple):
    """The modules of a host model, for what hooks them in its own ways."""

    model: Any
    core: Any
    """The same without its language-model head."""
    trunk: Trunk
    sites: SiteMap
    inputs: HostInputs


class HostModel:
    """A causal LM that is read (``capture``) and edited (``logits``) at named sites; or a text
    encoder, which predicts no tokens (``text_embedding``).

    Module hooks are shared by all threads, so each forward holds a lock; give every model one
    executor thread rather than let threads wait for one another.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        reopen: Callable[[], tuple[Any, Any]] | None = None,
        stored: StoredTensors | None = None,
    ) -> None:
        self.name = name
        self._stored = stored
        self._reopen = reopen
        self._depth: int | None = None  # blocks that are here, where not all are
        self._absent: list[str] = []
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device: torch.device = next(model.parameters()).device
        self.dtype: torch.dtype = next(model.parameters()).dtype
        self.d_model = int(text_config(model).hidden_size)
        self.d_vocab = int(model.get_input_embeddings().weight.shape[0])
        check_tokenizer(tokenizer, self.d_vocab, name)
        check_weights(model, name)
        self.bos_id = readable_id(tokenizer.bos_token_id, self.d_vocab)
        """None also where the tokenizer's BOS is beyond the embedding."""
        self.pad_id = pad_id(tokenizer, self.d_vocab)
        self._lock = threading.RLock()
        self._core = getattr(model, "base_model", model)
        self._trunk = find_trunk(model)
        self.n_layers = len(self._trunk.blocks)
        self._sites = SiteMap(name, prove(self._core, self._trunk, self.d_model, self.d_vocab))
        abilities = find_abilities(
            model, self._trunk, tokenizer, self.d_model, self.d_vocab, position_limit(model)
        )
        self.abilities = replace(abilities, heads=self._sites.heads(text_config(model)))
        self._inputs = HostInputs(
            name, tokenizer, self.d_vocab, self.pad_id, self.abilities.positions, self.device
        )
        # Last: what trying the cache may have left in the model must not matter.
        check_reading(self._core, self._trunk, self.d_vocab, name)

    @classmethod
    def load(
        cls,
        spec: ModelSpec,
        workspace: Workspace,
        reporter: Reporter = SILENT,
        allowed: int | None = None,
    ) -> HostModel:
        """Loads the model that ``spec`` names; ``ModelError`` where there is none to load, or it
        takes more bytes than ``allowed``."""
        place = locate(spec, workspace, reporter, allowed)
        model, tokenizer = open_model(place, spec, allowed)
        # The dtype is settled now: chosen again by speed, it might be another.
        dtype = str(model.dtype).removeprefix("torch.")
        again = spec.model_copy(update={"dtype": dtype})
        stored = StoredTensors(weights_folder(place), stored_prefix(model))
        host = cls(model, tokenizer, spec.name, partial(open_model, place, again), stored)
        _ = host.stamp  # of what was loaded, before anybody can replace the files
        return host

    @classmethod
    def wrap(cls, model: Any, tokenizer: Any, name: str) -> HostModel:
        """Takes a loaded model; it is put into eval mode and otherwise left unchanged."""
        return cls(model, tokenizer, name)

    def sites(self) -> list[str]:
        """Every site of this model, block by block in the order of computation."""
        return self._sites.names()

    def site_width(self, site: str) -> int:
        """Length of the vectors at ``site``; ``UnknownSite`` lists what exists."""
        return self._sites.width(site)

    def check_ids(self, ids: Tensor, where: str = "") -> None:
        """``DataError`` names a token that the embedding has no row for."""
        self._inputs.check_ids(ids, where)

    def capture(self, ids_BS: Tensor, mask_BS: Tensor, sites: Sequence[str]) -> dict[str, Tensor]:
        """Activations ``[B, S, width]`` at each site, on the model's device in its dtype.

        The forward ends once the deepest site has been seen; the unembedding never runs.  Rows may
        be padded on either side (``mask_BS`` 0): values at padding mean nothing.
        """
        return self._capture(_shape(ids_BS), self._inputs.padded(ids_BS, mask_BS), sites)

    def capture_blocks(
        self, ids_BS: Tensor, place_BS: Tensor, sites: Sequence[str]
    ) -> dict[str, Tensor]:
        """As ``capture``, of rows that hold several texts, none of which sees another.

        ``place_BS`` counts from 0 within each text, and starts again with the next: transformers
        reads the block-diagonal mask from it.  Ask ``packing.check_blocks`` first whether this
        model does.
        """
        self._inputs.check(ids_BS, int(place_BS.max()) + 1 if place_BS.numel() else 0)
        inputs = {"input_ids": ids_BS.to(self.device), "position_ids": place_BS.to(self.device)}
        return self._capture(_shape(ids_BS), inputs, sites)

    @contextmanager
    def opened(self, layer: int | None = None) -> Iterator[OpenHost]:
        """The modules themselves, with the lock held; the weights up to block ``layer`` are there,
        all without it.  Whoever hooks them removes the hooks before it closes."""
        with self._lock:
            if self._depth is not None and (layer is None or layer >= self._depth):
                self._make_whole()
            yield OpenHost(self.model, self._core, self._trunk, self._sites, self._inputs)

    def keep_up_to(self, sites: Sequence[str]) -> None:
        """Frees the weights above the deepest of ``sites``, as training never runs them.

        They are read again from the model's files when something asks for more.  A model that was
        handed over by ``wrap`` stays whole.
        """
        deepest = max((self._sites.locate(site).layer for site in sites), default=0)
        with self._lock:
            if self._reopen is None or self._depth is not None:
                return
            _ = self.stamp, self.sampled_fingerprint  # over all weights, so now or not at all
            self._depth = deepest + 1
            self._absent = unload_layers(self.model, self._trunk.blocks[self._depth :])

    def _make_whole(self) -> None:
        """Undoes ``keep_up_to``; called with the lock held."""
        if self._depth is None or self._reopen is None:
            return
        whole, _ = self._reopen()
        now = model_stamp(whole, self.tokenizer, self._stored)
        changed = changed_parts(self.stamp.parts, now.parts)
        if changed:
            raise ModelError(
                f"The files of the host model have changed while it was in use: {listed(changed)}.",
                "Start the run again.",
            )
        reload_layers(self.model, self._absent, whole)
        self._depth, self._absent = None, []

    def _capture(
        self, shape: tuple[int, int], inputs: dict[str, Tensor], sites: Sequence[str]
    ) -> dict[str, Tensor]:
        points = {site: self._sites.point(site) for site in sites}
        if not points:
            return {}
        with self._lock, torch.no_grad(), Recorder(points.values(), shape) as recorder:
            if self._depth is not None and any(
                self._sites.locate(s).layer >= self._depth for s in sites
            ):
                self._make_whole()
            with reading(self.device, self.dtype):
                self._core(**inputs, use_cache=False)
        return {site: recorder.values[point] for site, point in points.items()}

    def logits(
        self, ids_BS: Tensor, mask_BS: Tensor, edits: Mapping[str, Edit] | None = None
    ) -> Tensor:
        """Logits ``[B, S, V]`` in the model's dtype, each site replaced by its edit's result.

        An edit takes and returns ``[B, S, width]`` (see ``splice``).  An edit of ``hook_resid_mid``
        changes the stream itself, not only what the MLP reads.  ``ModelError`` for a model without
        a language-model head (``abilities.no_logits``).
        """
        self.need_logits()
        planned = self._sites.plan(edits)
        with self._lock, torch.no_grad(), Editor(planned, _shape(ids_BS)):
            self._make_whole()
            result = self.model(**self._inputs.padded(ids_BS, mask_BS), use_cache=False)
        logits: Tensor = result.logits
        return logits

    def extend(
        self, ids_BS: Tensor, cache: Any = None, edits: Mapping[str, Edit] | None = None
    ) -> tuple[Tensor, Any]:
        """(logits ``[B, V]`` of what follows the last of ``ids_BS``, cache of what was read).

        ``cache`` is that of the tokens before, from the call before, and is used up; rows are not
        padded.  Edits see the new tokens alone.  Only where ``abilities.cache``; ``ModelError``
        elsewhere.
        """
        self.need_logits()
        if not self.abilities.cache:
            raise ModelError(f"{self.name} has no usable cache: {self.abilities.no_cache}.")
        self._inputs.check(ids_BS, int(ids_BS.shape[1]))
        planned = self._sites.plan(edits)
        inputs = {"input_ids": ids_BS.to(self.device), "past_key_values": cache}
        with self._lock, torch.no_grad(), Editor(planned, _shape(ids_BS)):
            self._make_whole()
            result = self.model(**inputs, use_cache=True, logits_to_keep=1)
        return result.logits[:, -1], result.past_key_values

    def unembedding(self) -> tuple[Tensor, Tensor]:
        """``(W_U [d_model, d_vocab], gain [d_model])`` in float32 on the CPU.

        Logits are ``(normalised(x) * gain) @ W_U`` (+ biases); the gain is the factor that the
        final norm really applies, which for Gemma is ``1 + weight``.  ``ModelError`` where
        ``abilities.no_unembedding`` has a reason.
        """
        with self._lock:
            self._make_whole()
        gain = final_norm_gain(self._trunk.final_norm, self.d_model)
        return unembedding_matrix(self.model, self._trunk.owner, self.d_model), gain

    def output_directions(self, site: str, directions_FD: Tensor) -> Tensor:
        """Directions at a site (``[F, width]``) as what they add to the stream (``[F, d_model]``).

        ``attn.hook_z`` goes through W_O and ``mlp.hook_post`` through W_down, then these and
        ``mlp.hook_out`` through the gain of the sandwich norm where there is one.  Other sites are
        in the stream already.  ``ModelError`` for those of ``sites.MLP_READS``, of which the MLP
        makes something else.
        """
        layer, kind = self._sites.locate(site)
        if kind in sites.MLP_READS:
            raise ModelError(f"A direction at {site} is none of the stream: the MLP reads it.")
        if kind not in (sites.Z, sites.MLP_POST, sites.MLP_RAW):
            return directions_FD
        with self._lock:
            self._make_whole()
        points = self._sites.points(layer)
        branch = points[sites.ATTN_OUT if kind == sites.Z else sites.MLP_OUT].module
        projection = None if kind == sites.MLP_RAW else points[kind].module
        return project_to_residual(projection, branch, directions_FD, self.d_model)

    def mlp_rows(self, site: str) -> Tensor:
        """What each neuron of the MLP adds at its ``hook_mlp_out`` or ``mlp.hook_out``, up to a
        positive factor, float32 ``[d_mlp, d_model]``.  ``UnknownSite`` where the MLP has no single
        down projection, as mixtures of experts."""
        layer, kind = self._sites.locate(site)
        neurons = str(Site(layer, sites.MLP_POST))
        eye = torch.eye(self.site_width(neurons), device=self.device)
        if kind == sites.MLP_OUT:
            return self.output_directions(neurons, eye).float()
        with self._lock:
            self._make_whole()
        return linear_weight(self._sites.point(neurons).module).detach().float()

    def norm_before_mlp(self, layer: int) -> FrozenNorm:
        """The norm whose ``gain`` and ``shift`` make ``mlp.hook_in`` of ``ln2.hook_normalized``;
        ``UnknownSite`` where that site does not exist."""
        return self._sites.norm_before_mlp(layer)

    def token_bytes(self) -> TokenBytes:
        """Bytes of every token id."""
        return self._token_bytes

    @cached_property
    def _token_bytes(self) -> TokenBytes:
        return TokenBytes.from_tokenizer(self.tokenizer)

    @cached_property
    def stamp(self) -> ModelStamp:
        """What this model is, part by part (see ``fingerprint.model_stamp``).

        Of a loaded model it is taken as it is loaded; of one that was handed over, when it is first
        asked for: changes after that are not seen.
        """
        with self._lock:
            self._make_whole()
            return model_stamp(self.model, self.tokenizer, self._stored)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with any weight, buffer, adapter, entry of the configuration
        or of the tokenizer, and not with the dtype that a model is loaded in."""
        return self.stamp.fingerprint

    @cached_property
    def sampled_fingerprint(self) -> str:
        """The first form of a fingerprint, to verify what was stored under it."""
        with self._lock:
            self._make_whole()
            return sampled_fingerprint(self.model, self.tokenizer)

    def changes_since(self, recorded: Mapping[str, Any]) -> list[str]:
        """What of this model is not as in ``recorded``, an ``info`` stored earlier; empty where
        nothing is.

        One that holds the first form of a fingerprint is verified by that; one that holds none says
        nothing.
        """
        before, parts = recorded.get("fingerprint"), recorded.get("parts")
        if before is None or before == self.fingerprint:
            return []
        if not isinstance(parts, Mapping):
            if before == self.sampled_fingerprint:
                return []
            return [*self._sizes_since(recorded), "weights or vocabulary"]
        known = {str(name): str(digest) for name, digest in parts.items()}
        return [*self._sizes_since(recorded), *changed_parts(known, self.stamp.parts)]

    def _sizes_since(self, recorded: Mapping[str, Any]) -> list[str]:
        sizes = {"d_model": self.d_model, "n_layers": self.n_layers, "d_vocab": self.d_vocab}
        return [
            f"{name} {recorded[name]}, now {size}"
            for name, size in sizes.items()
            if name in recorded and recorded[name] != size
        ]

    def info(self) -> dict[str, Any]:
        """What is worth storing about this model, ready for JSON."""
        return {
            "name": self.name,
            "architecture": type(self.model).__name__,
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "d_vocab": self.d_vocab,
            "sites": self.sites(),
            "fingerprint": self.fingerprint,
            "parts": self.stamp.parts,
            "has_chat_template": bool(getattr(self.tokenizer, "chat_template", None)),
            "dtype": str(self.dtype).removeprefix("torch."),
            "abilities": self.abilities.as_dict(),
        }

    def need_logits(self) -> None:
        """``ModelError`` with the reason where this model predicts no tokens."""
        if not self.abilities.logits:
            encoder = self.abilities.text_end is not None
            raise ModelError(
                f"{self.name} predicts no tokens: {self.abilities.no_logits}.",
                f"Take {'a' if encoder else 'the checkpoint of the whole'} causal language model.",
            )


def _shape(ids_BS: Tensor) -> tuple[int, int]:
    return int(ids_BS.shape[0]), int(ids_BS.shape[1])
