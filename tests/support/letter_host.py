"""A host model whose embeddings hold a word's first letter, and SAEs of which one absorbs it."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monosemy.data.vocabulary import token_table
from monosemy.formats.saelens import save_sae
from monosemy.sae_folder import NamedFolder, SaeFolder
from monosemy.saes import registry
from monosemy.specs import TopKSpec
from monosemy.workspace import Workspace

LETTERS = "ABCDEFGHIJKL"
WIDTH = 32
ABSORBED = 0.2
"""Share of the first letter's words that have a direction of their own."""
MISTAKEN = 0.04
"""Share of words that the model takes for those of the next letter."""
SITE = "blocks.0.hook_resid_pre"


def letter_words() -> list[str]:
    """75 of each letter; what the tokenizer makes on its way to them are words too."""
    ends = ["".join(each) for each in itertools.product("mnrst", "aeiou", "dkp")]
    return [letter.lower() + end for letter in LETTERS for end in ends]


@cache
def letter_tokenizer() -> Any:
    """Byte-level BPE that reads each of the words, after a space, as one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=3000,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([f"then {word} then" for word in letter_words() * 4], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def _directions() -> Tensor:
    """Orthonormal ``[WIDTH, WIDTH]``: of each letter, then the first letter's second one."""
    generator = torch.Generator().manual_seed(11)
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0]


def letter_host(folder: Path) -> Path:
    """Writes the host model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = letter_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    generator = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        rows_UD, weight_VD = _directions(), model.model.embed_tokens.weight
        for token, text in enumerate(token_table(tokenizer)):
            word = re.fullmatch(rb" ([a-l])[a-z]*", text)
            if word is None:
                continue
            letter = LETTERS.index(word[1].decode().upper())
            if torch.rand(1, generator=generator) < MISTAKEN:
                letter = (letter + 1) % len(LETTERS)
            size = 1 + 0.1 * torch.rand(1, generator=generator)
            row_D = size * rows_UD[letter] + 0.1 * torch.randn(WIDTH, generator=generator)
            if letter == 0 and torch.rand(1, generator=generator) < ABSORBED:
                row_D = row_D + rows_UD[len(LETTERS)]
            weight_VD[token] = row_D
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def letter_sae(
    workspace: Workspace, name: str, host: Path, absorbs: bool, site: str = SITE
) -> NamedFolder:
    """One latent for each letter, with rows of length 2, and one for the second direction, which
    writes the first letter too where it ``absorbs``; the first letter's is silent there then."""
    rows_UD, count = _directions(), len(LETTERS)
    sae = registry.create(TopKSpec(d_sae=count + 1, k=count + 1), WIDTH)
    encoder = rows_UD[: count + 1].clone()
    decoder = 2 * rows_UD[: count + 1]
    if absorbs:
        encoder[0] -= 2 * rows_UD[count]
        decoder[count] += 2 * rows_UD[0]
    with torch.no_grad():
        sae.W_dec.copy_(decoder)
        sae.W_enc.copy_(encoder.T / 2)
        sae.b_enc.fill_(-0.25)
    spec = {"kind": "train", "name": name, "site": site, "sae": sae.spec.model_dump(mode="json")}
    spec["model"] = {"name": str(host), "dtype": "float32", "device": "cpu"}
    folder = workspace.locate(f"saes/{name}")
    save_sae(sae, folder, {"prepend_bos": True}, {"spec": spec, "metrics": {}})
    return NamedFolder(name, name, SaeFolder(folder, workspace))
