"""Models without a cache of keys and values write the same text, read anew at each step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import Generation, generate
from monosemy.interventions.intervention import steer
from monosemy.models.host import HostModel
from monosemy.specs.inference.places import TokenPlaces
from tests.support.planted_hosted_sae import SITE, planted_hosted_sae
from tests.support.tiny_models import tiny_from, tiny_model
from tests.support.written import beside

PROMPT = [0, 17, 45, 201, 33, 99]
NO_CACHE = {
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 3}),
    "gpt1": ("OpenAIGPTConfig", {"n_embd": 32, "n_layer": 3, "n_head": 4}),
    "rwkv": (
        "RwkvConfig",
        {"hidden_size": 32, "num_hidden_layers": 3, "attention_hidden_size": 32},
    ),
}


@pytest.mark.parametrize("where", ["all", "new"])
@pytest.mark.parametrize("mode", ["add", "clamp", "orthogonal"])
def test_reading_anew_is_reading_with_a_cache(tiny_tokenizer: Any, mode: Any, where: Any) -> None:
    cached = HostModel.wrap(tiny_model("llama", 400), tiny_tokenizer, "llama")
    anew = HostModel.wrap(tiny_model("llama", 400), tiny_tokenizer, "llama")
    anew.abilities = replace(anew.abilities, no_cache="it is to be tried without")
    how = Generation(8, temperature=0.8, places=TokenPlaces(where=where), logprobs=3)
    steps = []
    for host in (cached, anew):
        push = Interventions([steer(0, 4.0, mode)], planted_hosted_sae(host, 300))
        steps.append(list(generate(host, beside(PROMPT, push, None, seed=3), how)))
    assert len(steps[0]) == len(steps[1])
    for one, other in zip(*steps, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a is not None and b is not None
            assert (a.token, a.last) == (b.token, b.last)
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


@pytest.mark.parametrize("name", NO_CACHE)
def test_each_step_is_a_whole_forward_with_the_same_edits(tiny_tokenizer: Any, name: str) -> None:
    config, options = NO_CACHE[name]
    host = HostModel.wrap(tiny_from(config, 400, options), tiny_tokenizer, name)
    assert not host.abilities.cache
    hosted: HostedSAE = planted_hosted_sae(host, 300)
    push = Interventions([steer(0, 6.0)], hosted)
    steps = list(generate(host, beside(PROMPT, push, None, seed=3), Generation(5, temperature=0)))
    for row, pushed in enumerate((push, None)):
        ids = list(PROMPT)
        for step in steps:
            written = step[row]
            if written is None:
                break
            where_BS = torch.ones(1, len(ids), dtype=torch.bool)
            where_BS[0, 0] = False  # BOS
            edits = None if pushed is None else pushed.edits(where_BS)
            ids_BS = torch.tensor([ids])
            logits_V = host.logits(ids_BS, torch.ones_like(ids_BS), edits)[0, -1]
            assert written.token == int(logits_V.argmax())
            ids.append(written.token)
    assert SITE in host.sites()
