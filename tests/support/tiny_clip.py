"""A tiny random CLIP text encoder, its tokenizer's files written as Stable Diffusion has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.concept_texts import RETAIN, TARGETS, WORDS

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
POSITIONS = 77
_MERGES = 250


def captions() -> list[str]:
    """What the tokenizer learns its merges from, and SAEs are trained on."""
    kinds = ("a photo of a {}", "an oil painting of the {} by night", "two {}s, drawn in pencil")
    return [*TARGETS, *RETAIN, *(kind.format(word) for kind in kinds for word in WORDS)]


def write_clip_tokenizer(folder: Path) -> int:
    """``vocab.json``, ``merges.txt`` and their settings; the size of the vocabulary, whose last
    tokens are BOS and EOS."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", behavior="removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + _MERGES,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator([each.lower() for each in captions()], trainer)
    merges = [tuple(pair) for pair in json.loads(made.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(f"{each}</w>" for each in alphabet), *(a + b for a, b in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, BOS, EOS]))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": POSITIONS, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    return len(vocabulary)


def clip_shape(d_vocab: int, **options: Any) -> dict[str, Any]:
    """Three blocks of width 32, of fields of ``CLIPTextConfig``."""
    return {
        "vocab_size": d_vocab,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": 24,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": d_vocab - 2,
        "eos_token_id": d_vocab - 1,
        "pad_token_id": d_vocab - 1,
        "initializer_factor": 4.0,
        **options,
    }


def tiny_clip(folder: Path, architecture: str = "CLIPTextModel", **options: Any) -> Any:
    """A seeded random model, saved into ``folder`` with its tokenizer."""
    import torch
    import transformers

    shape = clip_shape(write_clip_tokenizer(folder), **options)
    if architecture == "CLIPModel":
        vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        vision |= {"num_attention_heads": 2, "image_size": 28, "patch_size": 14}
        config: Any = transformers.CLIPConfig(
            text_config=shape, vision_config=vision, projection_dim=shape["projection_dim"]
        )
    else:
        config = transformers.CLIPTextConfig(**shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, architecture)(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1 and "logit_scale" not in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model
