"""Mean outputs of heads are what the output projection makes of each head's z."""

from __future__ import annotations

import pytest
import torch

from monosemy.circuits import head_outputs
from monosemy.circuits.head_outputs import HeadOutputs, captured, heads_of, rows_of
from monosemy.data.tasks.examples import Example
from monosemy.errors import DataError, ModelError
from monosemy.models.host import HostModel
from tests.support.task_tokenizers import two_digit_tokenizer
from tests.support.tiny_models import tiny_model

ROWS = [(5, 6, 7, 8), (9, 10), (11, 12, 13, 14, 15, 16), (20, 21, 22)]


def prompts() -> list[Example]:
    return [Example(text=str(ids), ids=ids) for ids in ROWS]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "falcon"])
def test_heads_add_up_to_attention(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_outputs, "_VALUES_AT_ONCE", 400)  # several forwards
    monkeypatch.setattr(head_outputs, "_OUTPUTS_AT_ONCE", 300)
    tokenizer = two_digit_tokenizer()
    host = HostModel.wrap(tiny_model(family, len(tokenizer)), tokenizer, family)
    heads = heads_of(host)
    assert (heads.layers, heads.per_layer, heads.count) == ((0, 1, 2), 4, 12)
    outputs = HeadOutputs(host, heads, len(ROWS))
    for batch in captured(host, heads, rows_of(host, prompts())):
        outputs.add(batch)
    blocks = torch.zeros(len(ROWS), 3, 4, host.d_model)
    for part, place, values in outputs.by_blocks():
        blocks[part, place] = values
    whole = torch.stack([values for _, values in outputs.of(slice(None))], 1)
    assert torch.allclose(blocks, whole, atol=1e-5)
    for number, ids in enumerate(ROWS):
        row = torch.tensor([(0, *ids)])
        for layer in range(3):
            site = f"blocks.{layer}.attn.hook_z"
            (z_SW,) = host.capture(row, torch.ones_like(row), [site])[site]
            mean_W = z_SW[1:].mean(0)  # without the BOS
            for head in range(4):
                alone = torch.zeros_like(mean_W)
                width = len(mean_W) // 4
                alone[head * width : (head + 1) * width] = mean_W[head * width : (head + 1) * width]
                wanted = host.output_directions(site, alone[None])[0]
                assert torch.allclose(whole[number, layer, head], wanted, atol=1e-5)


def test_a_host_without_heads_is_refused() -> None:
    tokenizer = two_digit_tokenizer()
    host = HostModel.wrap(tiny_model("mamba", len(tokenizer)), tokenizer, "tiny-mamba")
    with pytest.raises(ModelError, match="tiny-mamba shows no attention heads"):
        heads_of(host)


def test_prompts_that_are_too_long_are_named(task_host: HostModel) -> None:
    ids = tuple([5] * 300)
    with pytest.raises(DataError, match="A prompt has 301 tokens; tiny-llama reads 256 at once"):
        rows_of(task_host, [*prompts(), Example(text="long", ids=ids)])
