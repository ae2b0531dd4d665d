"""Ids and positions that a model does not have: any valid padding, refusals by token or limit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from monosemy.data.store import TokenStore, prepare_text
from monosemy.errors import DataError
from monosemy.interp.host_text import HostText
from monosemy.interventions.generation import Generation, generate
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.models.packing import forward_rows
from monosemy.specs import TextSpec
from monosemy.workspace import Workspace
from tests.support.tiny_models import CONFIGURATIONS, tiny_from, tiny_model
from tests.support.written import beside
from workers.prompts import Prompt
from workers.warm_host import Row, WarmHost

SITE = "blocks.1.hook_resid_post"


@pytest.fixture
def tokenizer(tiny_tokenizer: Any) -> Any:
    """A copy, to which tokens may be added."""
    return copy.deepcopy(tiny_tokenizer)


def host_of(tokenizer: Any, rows: int = 400, name: str = "llama") -> HostModel:
    return HostModel.wrap(tiny_model(name, rows), tokenizer, "tiny")


def text_of(folder: Path, *texts: str, **options: Any) -> TextSpec:
    file = folder / "text.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return TextSpec(source=str(file), **{"context_size": 16, "heldout_fraction": 0.2, **options})


WORDS = ("The captain measured seven lanterns.", "A botanist.", "Grey whales were counted twice.")


# Padding


@pytest.mark.parametrize("packing", ["document", "packed", "chat_block_diagonal"])
def test_padding_beyond_the_embedding_does_no_harm(
    tokenizer: Any, tmp_path: Path, packing: str
) -> None:
    usual = host_of(copy.deepcopy(tokenizer))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert tokenizer.pad_token_id == 400
    host = host_of(tokenizer)
    assert 0 <= host.pad_id < 400
    if packing.startswith("chat"):
        template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
        host.tokenizer.chat_template = usual.tokenizer.chat_template = template
        file = tmp_path / "chats.jsonl"
        chats = [[{"role": "user", "content": word}] for word in WORDS]
        file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
        text = TextSpec(source=str(file), context_size=16, packing=packing)
    else:
        text = text_of(tmp_path, *WORDS, packing=packing)
    stores = [
        TokenStore.build(text, each, tmp_path / str(i)) for i, each in enumerate((host, usual))
    ]
    rows = np.arange(stores[0].n_rows)
    wanted = forward_rows(usual, stores[1], rows, [SITE])[SITE]
    # Also as a store of older days has it.
    for pad in (host.pad_id, 400, 10**6):
        stores[0].pad_id = pad
        torch.testing.assert_close(forward_rows(host, stores[0], rows, [SITE])[SITE], wanted)


def test_any_padding_of_a_caller_is_masked(tokenizer: Any) -> None:
    host = host_of(tokenizer)
    ids_BS = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, -100, 10**9]])
    mask_BS = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    found_BSD = host.capture(ids_BS, mask_BS, [SITE])[SITE]
    torch.testing.assert_close(found_BSD[1, :3], found_BSD[0, :3])
    left_BS, left_mask_BS = ids_BS.flip(1), mask_BS.flip(1)
    assert host.logits(left_BS, left_mask_BS).isfinite().all()


# Tokens


def test_an_added_token_is_refused_where_a_text_has_it(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.add_tokens(["<extra>"])
    host = host_of(tokenizer)  # declared and not used: nothing is wrong
    plain = text_of(tmp_path, *WORDS)
    assert TokenStore.build(plain, host, tmp_path / "plain").n_tokens
    used = text_of(tmp_path, *WORDS, "It is <extra> here.")
    with pytest.raises(
        DataError, match=r"'text.jsonl:4': token 400 '<extra>' is beyond .* 400 rows"
    ):
        TokenStore.build(used, host, tmp_path / "used")
    assert not (tmp_path / "used").exists()


@pytest.mark.parametrize("packing", ["document", "packed"])
def test_bos_beyond_the_embedding_is_refused_or_left_out(
    tokenizer: Any, tmp_path: Path, packing: str
) -> None:
    tokenizer.add_special_tokens({"bos_token": "[BOS]"})
    host = host_of(tokenizer)
    assert host.bos_id is None
    absent = TextSpec(source=str(tmp_path / "absent.jsonl"), context_size=16, packing=packing)
    with pytest.raises(DataError, match=r"token 400 '\[BOS\]', is beyond .*prepend_bos=false"):
        prepare_text(absent, host, Workspace(tmp_path))
    text = text_of(tmp_path, *WORDS, prepend_bos=False, packing=packing)
    store = prepare_text(text, host, Workspace(tmp_path))
    assert store.bos_id is None
    acts_ND, _ = ActivationSource(host, store, SITE, None).rows(np.arange(store.n_rows))
    assert acts_ND.isfinite().all()
    assert HostText(host).with_bos((5, 6)) == (5, 6)


def test_packing_takes_a_separator_that_can_be_read(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.add_special_tokens({"eos_token": "[EOS]"})
    text = text_of(tmp_path, *WORDS, packing="packed")
    store = TokenStore.build(text, host_of(tokenizer), tmp_path / "store")
    assert store.meta["separator_id"] == tokenizer.bos_token_id
    tokenizer.add_special_tokens({"bos_token": "[BOS]"})
    text = text.model_copy(update={"prepend_bos": False})
    with pytest.raises(DataError, match="neither an EOS nor a BOS that it can read"):
        TokenStore.build(text, host_of(tokenizer), tmp_path / "other")


def test_a_tokenizer_without_any_special_token(tokenizer: Any, tmp_path: Path) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    host = host_of(bare)
    assert (host.bos_id, host.pad_id) == (None, 0)
    store = TokenStore.build(text_of(tmp_path, *WORDS), host, tmp_path / "store")
    assert store.bos_id is None and store.n_tokens


def test_an_embedding_larger_than_the_tokenizer(tokenizer: Any, tmp_path: Path) -> None:
    host = host_of(tokenizer, rows=512)
    store = TokenStore.build(text_of(tmp_path, *WORDS), host, tmp_path / "store")
    acts_ND, _ = ActivationSource(host, store, SITE, None).rows(np.arange(store.n_rows))
    assert acts_ND.isfinite().all()
    steps = list(generate(host, beside([0, 5, 6], None), Generation(4, temperature=5.0)))
    assert len(steps) == 4  # rows without a token may be sampled


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([[5, 400]], "token 400 is beyond the embedding's 400 rows"),
        ([[5, 2**40]], f"token {2**40} is beyond"),
        ([[-1, 5]], "token -1 is beyond"),
        ([[1.0, 2.0]], "whole numbers, not torch.float32"),
        ([[True, False]], "whole numbers, not torch.bool"),
    ],
)
def test_ids_of_a_caller_are_looked_at(tokenizer: Any, ids: list[Any], words: str) -> None:
    host = host_of(tokenizer)
    ids_BS = torch.tensor(ids)
    mask_BS = torch.ones(ids_BS.shape, dtype=torch.long)
    with pytest.raises(DataError, match=words):
        host.capture(ids_BS, mask_BS, [SITE])
    with pytest.raises(DataError, match=words):
        host.logits(ids_BS, mask_BS)
    with pytest.raises(DataError, match=words):
        host.extend(ids_BS)
    with pytest.raises(DataError, match=words):
        host.capture_blocks(ids_BS, torch.arange(2)[None], [SITE])


def test_the_inference_server_names_the_token(tokenizer: Any) -> None:
    tokenizer.add_tokens(["<extra>"])
    warm = WarmHost(host_of(tokenizer))
    ids, skip = warm.words.row(Prompt("It is <extra> here.", None), prepend_bos=True)
    with pytest.raises(DataError, match="token 400 '<extra>' is beyond"):
        warm.read([Row(ids, skip, ())])


# Positions

_LIMITS: list[tuple[str, dict[str, Any], int | None]] = [
    ("LlamaConfig", CONFIGURATIONS["llama"][1], 128),
    ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24}, 24),
    ("OpenAIGPTConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24}, 24),
    ("OPTConfig", {**CONFIGURATIONS["opt"][1], "max_position_embeddings": 24}, 24),
    # Positions of RoBERTa begin behind that of its padding, here 2.
    (
        "RobertaConfig",
        {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 24, "is_decoder": True,
        },
        21,
    ),
    ("MistralConfig", {**CONFIGURATIONS["llama"][1], "sliding_window": 8}, 128),
    ("BloomConfig", CONFIGURATIONS["bloom"][1], None),
    ("MambaConfig", CONFIGURATIONS["mamba"][1], None),
    ("FalconConfig", {**CONFIGURATIONS["falcon"][1], "alibi": True}, None),
]  # fmt: skip


@pytest.mark.parametrize(("config", "options", "limit"), _LIMITS, ids=[row[0] for row in _LIMITS])
def test_a_model_reads_as_far_as_its_positions_go(
    tokenizer: Any, config: str, options: dict[str, Any], limit: int | None
) -> None:
    host = HostModel.wrap(tiny_from(config, 400, options), tokenizer, config)
    assert host.abilities.positions == limit
    ids_BS = torch.randint(3, 400, (1, limit or 200), generator=torch.Generator().manual_seed(0))
    assert host.logits(ids_BS, torch.ones_like(ids_BS)).isfinite().all()
    if limit is None:
        return
    ids_BS = torch.cat([ids_BS, ids_BS[:, :1]], 1)
    with pytest.raises(DataError, match=f"{limit + 1} tokens; {config} reads {limit} at once"):
        host.capture(ids_BS, torch.ones_like(ids_BS), [SITE])
    with pytest.raises(DataError, match=f"can hold {limit}"):
        next(generate(host, beside(ids_BS[0, : limit - 3].tolist(), None), Generation(4)))
    steps = list(
        generate(host, beside(ids_BS[0, : limit - 4].tolist(), None, seed=1), Generation(4))
    )
    assert 1 <= len(steps) <= 4


@pytest.mark.parametrize("packing", ["document", "packed", "chat", "chat_block_diagonal"])
def test_a_context_beyond_the_positions_is_refused_before_the_text_is_opened(
    tokenizer: Any, tmp_path: Path, packing: str
) -> None:
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    host = host_of(tokenizer)
    absent = TextSpec(source=str(tmp_path / "absent.jsonl"), context_size=129, packing=packing)
    with pytest.raises(DataError, match=r"context_size=129 is more than the 128 .*=128 or less"):
        prepare_text(absent, host, Workspace(tmp_path))
    with pytest.raises(DataError, match="context_size=129"):
        TokenStore.build(absent, host, tmp_path / "store")
    fits = absent.model_copy(update={"context_size": 128})
    with pytest.raises(DataError, match="no file"):
        prepare_text(fits, host, Workspace(tmp_path))


def test_a_full_row_with_its_bos_fits(tokenizer: Any, tmp_path: Path) -> None:
    text = text_of(tmp_path, " ".join(WORDS * 20), "Another.", context_size=128)
    host = host_of(tokenizer, name="gpt2")
    store = TokenStore.build(text, host, tmp_path / "store")
    assert np.diff(store.row_start).max() == 127
    acts_ND, _ = ActivationSource(host, store, SITE, None).rows(np.arange(store.n_rows))
    assert acts_ND.isfinite().all()
