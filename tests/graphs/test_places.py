"""Coders that read what the MLP reads, behind its norm or before the norm's gain."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monosemy.attribution.linearised import FINAL
from monosemy.graphs.ablation import goal_values, values_at, without_features
from monosemy.graphs.circuit_runs import run_circuits
from monosemy.graphs.goals import token_logits
from monosemy.graphs.prompt import read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.transposed import TransposedPass
from monosemy.hosted_sae import HostedSAE
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.graph_coders import random_coder

_LATER = pytest.mark.campaign


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("gemma2", "mlp.hook_in"),
        ("gpt2", "ln2.hook_normalized"),
        ("neox-parallel", "mlp.hook_in"),
        pytest.param("llama", "mlp.hook_in", marks=_LATER),
        pytest.param("llama", "ln2.hook_normalized", marks=_LATER),
        pytest.param("gemma3", "ln2.hook_normalized", marks=_LATER),
        pytest.param("qwen3", "mlp.hook_in", marks=_LATER),
        pytest.param("neox-parallel", "ln2.hook_normalized", marks=_LATER),
    ],
)
def test_rows_add_up_through_the_norm_before_the_mlp(
    architecture: str, kind: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    coders = [
        HostedSAE.at(
            host,
            random_coder(32, 32, skip=True, seed=layer),
            f"blocks.{layer}.{kind}",
            f"blocks.{layer}.hook_mlp_out",
        )
        for layer in range(host.n_layers)
    ]
    prompt = read_prompt(ReplacementModel(host, coders), some_ids(host))
    (goal,) = token_logits(prompt, [5])
    count = len(prompt.features)
    rows = TransposedPass(prompt).rows([goal, 3, count // 2, count - 1])
    off = (rows.edges_NB.double().sum(0) - rows.value_B).abs()
    mass = rows.edges_NB.abs().sum(0)
    assert float((off / mass).max()) <= 1e-5
    number = count // 3
    deltas = without_features(prompt, [[], [number]])
    clean, without = goal_values(
        goal, values_at(prompt, deltas, [FINAL], "all", 2), prompt.layers
    ).tolist()
    edge = float(rows.edges_NB[number, 0])
    assert without - clean == pytest.approx(-edge, abs=1e-5 * float(mass[0]))
    everything = torch.ones(1, count, dtype=torch.bool)
    assert float(run_circuits(prompt, everything, goal)[0]) == pytest.approx(clean, abs=1e-3)
