"""Tiny random causal LMs of many architectures, for the tests of hooking."""

from __future__ import annotations

from typing import Any

import torch
import transformers

_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_GPT = {
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_NEOX = {
    name: value for name, value in _SHAPE.items() if not name.endswith(("value_heads", "head_dim"))
}

CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _SHAPE),
    "gpt2": ("GPT2Config", _GPT),
    "gemma2": ("Gemma2Config", _SHAPE),
    "gemma3": ("Gemma3TextConfig", _SHAPE),
    "qwen2": ("Qwen2Config", _SHAPE),
    "qwen3": ("Qwen3Config", _SHAPE),
    "olmo2": ("Olmo2Config", _SHAPE),
    "neox-parallel": ("GPTNeoXConfig", {**_NEOX, "use_parallel_residual": True}),
    "neox-sequential": ("GPTNeoXConfig", {**_NEOX, "use_parallel_residual": False}),
    "gptj": ("GPTJConfig", {**_GPT, "rotary_dim": 4}),
    "falcon": ("FalconConfig", {**_NEOX, "multi_query": True}),
    "bloom": ("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "init_std": 0.2,
        },
    ),
    "mixtral": ("MixtralConfig", {**_SHAPE, "num_local_experts": 4}),
    "granite": ("GraniteConfig", {**_SHAPE, "residual_multiplier": 0.22}),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2}),
}


def tiny_model(architecture: str, vocabulary: int, dtype: torch.dtype = torch.float32) -> Any:
    """A seeded random model; norms and biases are shaken, so that none is trivially one or zero."""
    name, options = CONFIGURATIONS[architecture]
    config = getattr(transformers, name)(vocab_size=vocabulary, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    model.config.architectures = [type(model).__name__]
    return model.to(dtype).eval()


def tiny_from(
    config: str, vocabulary: int, options: dict[str, Any], head: str = "AutoModelForCausalLM"
) -> Any:
    """A seeded random model of any of transformers' configurations, under any of its heads."""
    made = getattr(transformers, config)(
        **{"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
        | options
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return getattr(transformers, head).from_config(made).eval()
