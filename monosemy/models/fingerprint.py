"""What makes a host model this one and no other: a digest of every part, and of all of them.

The parts are named, so that a model that has changed can be told by what has: every block's
weights, the embedding, the configuration, the tokenizer, its chat template, adapters.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monosemy.models.derived_buffers import underived_buffers
from monosemy.models.exact_values import digest_of, narrowest
from monosemy.models.stored_tensors import StoredTensors
from monosemy.models.tokenizer_parts import tokenizer_parts
from monosemy.threads import usable_cores
from monosemy.workspace import fingerprint

_FORMAT = 2
"""Part of every fingerprint: raise it when the meaning of one changes.  The first form is
``sampled_fingerprint``."""

_SAMPLES = 64
_BLOCK = re.compile(r"\.(\d+)\.")
_ADAPTER = re.compile(
    r"(^|[._])(lora|adapter|adapters|ia3|vera|oft|hada|lokr|modules_to_save)([._]|$)"
)
_SHOWN = 3
"""Weights named one by one where several have changed."""

_WITHOUT_EFFECT = {
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "chunk_size_feed_forward",
    "dtype",
    "gradient_checkpointing",
    "id2label",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}
"""Entries of a configuration that change no activation."""


@dataclass(frozen=True)
class ModelStamp:
    """Which model: equal stamps compute the same."""

    fingerprint: str
    """16 hex digits over all parts."""
    parts: dict[str, str]
    """Digest (16 hex digits) of each part by its name, such as ``weights of blocks.3``."""


def model_stamp(model: Any, tokenizer: Any, stored: StoredTensors | None = None) -> ModelStamp:
    """Reads every parameter, every buffer that the configuration does not determine, the
    configuration, adapters and the tokenizer.

    Values count, not the dtype that holds them: a model whose file is in bfloat16 is the same in
    float32.  Where it was loaded in a dtype that cannot hold the values of its files, these are
    looked up in ``stored``, so that a model has one stamp in every dtype it is loaded in.  Without
    ``stored`` (a model that was handed over) it is of the values in memory.
    """
    groups: dict[str, list[str]] = {}
    for name, digest in _tensor_digests(model, stored):
        groups.setdefault(_part_of(name), []).append(f"{name} {digest}")
    parts = {part: fingerprint(sorted(lines)) for part, lines in groups.items()}
    parts["configuration"] = fingerprint([type(model).__name__, _configuration(model.config)])
    adapters = _adapters(model)
    if adapters:
        parts["adapters' settings"] = fingerprint(adapters)
    parts |= tokenizer_parts(tokenizer)
    parts = dict(sorted(parts.items()))
    return ModelStamp(fingerprint({"format": _FORMAT, "parts": parts}), parts)


def changed_parts(recorded: Mapping[str, str], parts: Mapping[str, str]) -> list[str]:
    """Names of the parts that differ, weights last and in few words; empty where none does."""
    names = [n for n in {**recorded, **parts} if recorded.get(n) != parts.get(n)]
    weights = [name for name in names if name.startswith("weights of ")]
    others = [name for name in names if name not in weights]
    if len(weights) <= _SHOWN:
        return others + sorted(weights)
    every = [name for name in parts if name.startswith("weights of ")]
    if set(every) <= set(weights):
        return [*others, "all weights"]
    places = [name.removeprefix("weights of ") for name in _by_block(weights)]
    more = len(places) - _SHOWN
    return [*others, f"weights of {', '.join(places[:_SHOWN])} and {more} more"]


def sampled_fingerprint(model: Any, tokenizer: Any) -> str:
    """The first form of a fingerprint: 64 values of each parameter, rounded to bfloat16, and the
    vocabulary.

    Kept to verify what was stored under it, and for nothing else: it does not see most changes.
    """
    digest = hashlib.blake2b(digest_size=8)
    digest.update(type(model).__name__.encode())
    for name, value in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(_sample(value))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    digest.update(json.dumps(vocabulary, ensure_ascii=True).encode())
    return digest.hexdigest()


def _sample(value: Tensor) -> bytes:
    flat = value.detach().reshape(-1)
    step = max(flat.numel() // _SAMPLES, 1)
    rounded = flat[::step].to(torch.bfloat16).cpu().contiguous()
    return rounded.view(torch.int16).numpy().tobytes()


def _tensor_digests(model: Any, stored: StoredTensors | None) -> Iterator[tuple[str, str]]:
    """(name, digest) of everything that is computed with."""
    state = model.state_dict(keep_vars=True)
    tensors = dict(model.named_parameters())
    tensors |= {name: value for name, value in model.named_buffers() if name in state}
    if stored is None:
        tensors |= underived_buffers(model)
    workers = min(8, usable_cores())

    def one(item: tuple[str, Tensor]) -> tuple[str, str]:
        name, value = item
        exact = stored.exact(name, value) if stored is not None else value
        return name, f"{tuple(value.shape)} {digest_of(narrowest(exact.detach()))}"

    with ThreadPoolExecutor(workers) as pool:  # hashing frees the interpreter
        yield from pool.map(one, tensors.items())


def _part_of(name: str) -> str:
    if _ADAPTER.search(name):
        return "adapters"
    block = _BLOCK.search(f".{name}")
    if block:
        return f"weights of blocks.{block[1]}"
    return f"weights of {name.rpartition('.')[0] or name}"


def _by_block(names: Iterable[str]) -> Sequence[str]:
    def place(name: str) -> tuple[int, str]:
        number = name.rpartition("blocks.")[2]
        return (int(number) if number.isdigit() else -1), name

    return sorted(names, key=place)


def _configuration(config: Any) -> Any:
    """The entries that change what is computed, but for those that are as transformers has them by
    default: a later version may add some."""
    return _pruned(config.to_diff_dict())


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(key): _pruned(each)
            for key, each in value.items()
            if key not in _WITHOUT_EFFECT and not str(key).startswith("_")
        }
    if isinstance(value, list | tuple):
        return [_pruned(each) for each in value]
    return value


def _adapters(model: Any) -> list[Any]:
    """What PEFT keeps beside the tensors: settings, which are active, how strong they are."""
    adapters: list[Any] = []
    configs = getattr(model, "peft_config", None)
    if isinstance(configs, Mapping):
        adapters += [[str(name), _settings(config)] for name, config in sorted(configs.items())]
    for name, module in model.named_modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, Mapping):
            adapters.append(
                [
                    name,
                    dict(scaling),
                    _plain(getattr(module, "active_adapters", None)),
                    _plain(getattr(module, "disable_adapters", None)),
                    _plain(getattr(module, "merged_adapters", None)),
                ]
            )
    return adapters


def _settings(config: Any) -> Any:
    values = config.to_dict() if hasattr(config, "to_dict") else vars(config)
    passed_over = {"base_model_name_or_path", "revision", "inference_mode", "auto_mapping"}
    return {str(k): _plain(v) for k, v in values.items() if k not in passed_over}


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, set) else value
