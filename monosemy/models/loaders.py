"""The one place where models, tokenizers and encoders are opened: no code of theirs, no pickles.

What a model's files say is foreign.  Its code is never run, its weights are safetensors, attention
is PyTorch's, and what it takes is known before it is loaded.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from monosemy.errors import ModelError
from monosemy.models.kinds import host_config, leave_out_missing
from monosemy.models.memory import config_bytes, most_bytes, too_large
from monosemy.models.text_encoders import text_encoder_class

# Before transformers is imported: kernels of the hub are code.
os.environ.setdefault("USE_HUB_KERNELS", "0")

_INDEX = "model.safetensors.index.json"
_ATTENTION = ("eager", "sdpa")
"""Attention that PyTorch itself computes."""


def load_tokenizer(path: str | Path, revision: str | None = None, gguf_file: str | None = None):  # type: ignore[no-untyped-def]
    """The tokenizer at ``path``; raises what transformers raises."""
    from transformers import AutoTokenizer

    more = {} if gguf_file is None else {"gguf_file": gguf_file}
    return AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False, **more)


def load_config(
    path: str | Path, name: str, revision: str | None = None, gguf_file: str | None = None
) -> Any:
    """The configuration at ``path``, free of what would fetch or run anything.

    Raises ``ModelError`` for what a host model must not be, else what transformers raises.
    """
    from transformers import AutoConfig
    from transformers.utils import find_adapter_config_file

    if find_adapter_config_file(str(path), revision=revision) is not None:
        raise ModelError(
            f"'{name}' has an adapter (adapter_config.json), which names another model.",
            "Merge it into the weights first, with PEFT's merge_and_unload.",
        )
    more = {} if gguf_file is None else {"gguf_file": gguf_file}
    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False, **more)
    config._attn_implementation = None  # the files have no say; this reaches the inner ones too
    if gguf_file is None:
        _check_config(config, name)
        _check_weights(path, config, name, revision)
    return config


def load_host_config(
    path: str | Path, name: str, revision: str | None = None, gguf_file: str | None = None
) -> Any:
    """As ``load_config``, of a whole CLIP that of its text encoder; ``ModelError`` also for what is
    neither a causal language model nor a text encoder (``kinds``)."""
    from transformers import AutoModelForCausalLM

    config = load_config(path, name, revision, gguf_file)
    return host_config(config, AutoModelForCausalLM, name)


def _check_config(config: Any, name: str) -> None:
    for each in _nested(config):
        if getattr(each, "quantization_config", None):
            raise ModelError(
                f"The model '{name}' is quantised, which would need code of its own.",
                "Save it with its weights de-quantised; a .gguf file is de-quantised here.",
            )


def _check_weights(path: str | Path, config: Any, name: str, revision: str | None) -> None:
    """``ModelError`` where the names of weight files lead to anything but safetensors there."""
    from transformers.utils import cached_file

    if (Path(path) / ".metadata").exists():
        raise ModelError(f"'{name}' is a distributed checkpoint, which is read by unpickling.")
    named = getattr(config, "transformers_weights", None)
    index = str(named) if str(named or "").endswith(".json") else _INDEX
    files = [] if named is None else [named]
    index_file = cached_file(
        str(path), index, revision=revision, _raise_exceptions_for_missing_entries=False
    )
    if index_file is not None:
        try:
            shards = json.loads(Path(index_file).read_text(encoding="utf-8"))["weight_map"].values()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ModelError(f"The {index} of '{name}' is no index of weight files.") from None
        files += shards
    for file in files:
        inside = isinstance(file, str) and not {"..", "/"} & set(PurePosixPath(file).parts)
        if not inside or not str(file).endswith((".safetensors", ".safetensors.index.json")):
            raise ModelError(
                f"The weights of '{name}' are in {str(file)[:100]!r}, which is no .safetensors "
                "file of that folder.",
                "Save them with save_pretrained, which writes safetensors.",
            )


def model_bytes(path: str, name: str, revision: str | None, dtype: torch.dtype) -> int:
    """Bytes of the weights of the model at ``path`` by its configuration; nothing is loaded."""
    config = load_host_config(path, name, revision)
    return config_bytes(config, dtype, 2**62, name)


def load_host_model(
    path: str | Path,
    name: str,
    config: Any,
    dtype: torch.dtype,
    device: torch.device,
    revision: str | None = None,
    gguf_file: str | None = None,
    allowed: int | None = None,
) -> Any:
    """The model at ``path``, on the CPU, in eval mode; ``config`` is ``load_host_config``'s.
    A causal LM whose files hold no language-model head comes without.

    Raises ``ModelError`` for one that takes more bytes than ``allowed``, or than there are on
    ``device`` and in this machine, and for weights that do not fit their configuration; else what
    transformers raises.
    """
    from transformers import AutoModelForCausalLM

    most = min(most_bytes(device, allowed), most_bytes(torch.device("cpu"), allowed))
    needed = config_bytes(config, dtype, most, name)
    if needed > most:
        raise too_large(name, needed, most)
    if gguf_file is not None:
        return AutoModelForCausalLM.from_pretrained(
            path,
            gguf_file=gguf_file,
            dtype=dtype,
            attn_implementation=None,
            use_safetensors=True,
            trust_remote_code=False,
        )
    architecture = text_encoder_class(config) or AutoModelForCausalLM
    loaded: Any = architecture.from_pretrained(
        path,
        config=config,
        revision=revision,
        dtype=dtype,
        # None lets the class choose among PyTorch's own; the files have no say.
        attn_implementation=None,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, info = loaded
    _check_loaded(model, info, name)
    return model


def _check_loaded(model: Any, info: dict[str, Any], name: str) -> None:
    leave_out_missing(model, info["missing_keys"], name)
    for each in _nested(model.config):
        chosen = getattr(each, "_attn_implementation", None)
        if chosen not in (None, *_ATTENTION):
            raise ModelError(f"The model '{name}' asks for the attention '{str(chosen)[:100]}'.")


def load_encoder(folder: Path, dtype: torch.dtype) -> Any:
    """The encoder in a folder of this machine; raises as ``load_host_model`` does, but knows no
    limit: the operator names it."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(
        folder,
        config=load_config(folder, folder.name),
        local_files_only=True,
        dtype=dtype,
        attn_implementation=None,
        use_safetensors=True,
        trust_remote_code=False,
    )


def _nested(config: Any) -> list[Any]:
    """A configuration and those within it."""
    inner = (getattr(config, name, None) for name in getattr(config, "sub_configs", {}))
    return [config, *(each for one in inner if one is not None for each in _nested(one))]
