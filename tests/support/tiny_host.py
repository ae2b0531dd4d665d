"""A tiny tokenizer and a tiny random host model, the same on every machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.tiny_text import tiny_documents

if TYPE_CHECKING:
    from monosemy.models.host import HostModel


def make_tiny_tokenizer() -> Any:
    """Byte-level BPE of 400 tokens, trained on ``tiny_documents``; <s>, </s>, <pad> are 0, 1, 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(tiny_documents(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def make_tiny_host(tokenizer: Any) -> HostModel:
    """A random Llama: 4 blocks, d_model 32, 4 heads over 2 key-value heads, float32, seeded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from monosemy.models.host import HostModel

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    return HostModel.wrap(model, tokenizer, "tiny-llama")
