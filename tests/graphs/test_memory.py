"""A transposed pass holds one block and a few times what it passes on, whatever the depth."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.transposed import TransposedPass
from monosemy.models.host import HostModel
from tests.support.attribution import some_ids
from tests.support.graph_coders import transcoders
from tests.support.tiny_models import _SHAPE

TOKENS, BATCH, HEADS = 512, 64, 4


class _Held(TorchDispatchMode):
    """The most bytes of tensors that were alive at once, of those made while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.now = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {
            each.untyped_storage().data_ptr()
            for each in tree_leaves((args, kwargs or {}))
            if isinstance(each, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                storage = each.untyped_storage()
                self._held(each, storage.data_ptr(), storage.nbytes(), known)
        return result

    def _held(self, tensor: Tensor, place: int, size: int, known: set[int]) -> None:
        if place in known and not self._users[place]:
            return  # of before
        if not self._users[place]:
            self.now += size
            self.most = max(self.most, self.now)
        self._users[place] += 1
        weakref.finalize(tensor, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            self.now -= size


def long_prompt(tokenizer: Any, layers: int) -> ReplacedPrompt:
    shape = {**_SHAPE, "max_position_embeddings": 1024, "num_hidden_layers": layers}
    config = transformers.LlamaConfig(vocab_size=len(tokenizer), **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config).eval()
    host = HostModel.wrap(model, tokenizer, "long")
    coders = transcoders(host, skip=True, k=4)
    return read_prompt(ReplacementModel(host, coders), some_ids(host, TOKENS))


@pytest.mark.parametrize("layers", [2, pytest.param(6, marks=pytest.mark.campaign)])
def test_memory_is_one_block_and_three_times_what_passes(layers: int, tiny_tokenizer: Any) -> None:
    prompt = long_prompt(tiny_tokenizer, layers)
    passes = TransposedPass(prompt)
    at_the_end = (prompt.features.position_N == TOKENS - 1).nonzero()[:, 0].tolist()
    highest = max(at_the_end, key=lambda n: int(prompt.features.layer_N[n]))
    _ = passes.constants
    with _Held() as held:
        rows = passes.rows([highest] * BATCH)
    sources = rows.edges_NB.numel() * 4
    one_block = 3 * HEADS * TOKENS**2 * 4  # scores, their mask, the pattern
    passing = BATCH * TOKENS * prompt.host.d_model * 4
    assert held.most <= one_block + 3 * passing + sources
    assert held.most >= passing + sources  # or it has not been seen at all
