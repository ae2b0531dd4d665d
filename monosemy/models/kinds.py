"""What a checkpoint is, by its configuration and by the weights that it holds."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from monosemy.errors import ModelError
from monosemy.models.text_encoders import text_encoder_class, text_encoder_config

_ADVICE = (
    "Take a causal language model, such as those of transformers' AutoModelForCausalLM, or a CLIP "
    "text encoder."
)


def host_config(config: Any, auto_class: Any, name: str) -> Any:
    """What of ``config`` is read: all of it, or the part of a text encoder.

    ``ModelError`` names an encoder-decoder and what is no language model, before weights load.
    ``config`` is transformers' configuration, ``auto_class`` ``AutoModelForCausalLM``.
    """
    made_by = ", ".join(getattr(config, "architectures", None) or []) or type(config).__name__
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"The model '{name}' ({made_by}) is an encoder-decoder; only causal language models "
            "are read.",
            _ADVICE,
        )
    encoder = text_encoder_config(config)
    if encoder is None and type(config) not in auto_class._model_mapping:
        raise ModelError(f"The model '{name}' ({made_by}) is no causal language model.", _ADVICE)
    return config if encoder is None else encoder


def leave_out_missing(model: Any, missing: Collection[str], name: str) -> None:
    """Takes out a head that the files lack; ``ModelError`` if they lack more than that.

    transformers fills in at random what it does not find, and reports it only in its log.
    """
    prefix = f"{model.base_model_prefix}."
    headless = text_encoder_class(model.config) is not None
    body = sorted(key for key in missing if headless or key.startswith(prefix))
    if body:
        raise ModelError(
            f"The files of '{name}' lack {len(body)} weights of a {type(model).__name__}, "
            f"such as {body[0]}.",
            "Is its config.json that of these weights, and are all files there?",
        )
    if missing:
        with suppress(AttributeError, TypeError):  # a head of several parts
            model.set_output_embeddings(None)
        if model.get_output_embeddings() is not None:
            raise ModelError(
                f"The files of '{name}' hold no language-model head ({min(missing)} is missing).",
                "Take the checkpoint of the whole causal language model.",
            )
