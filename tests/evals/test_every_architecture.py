"""Train, evaluate, index: the whole way for every architecture, on a tiny host model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monosemy import stages
from monosemy.data.store import TokenStore
from monosemy.evals.splice import spliced_losses
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.sae_folder import SaeFolder
from monosemy.saes.registry import create
from monosemy.specs import (
    ARCHITECTURES,
    EvaluateRun,
    EvaluationSpec,
    IndexingSpec,
    IndexRun,
    TextSpec,
    TopKSpec,
    TrainRun,
    parse_spec,
)
from monosemy.specs.architectures import ARCHITECTURES as SPECS
from monosemy.workspace import Workspace

SITE, TARGET = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"
ELSEWHERE = "blocks.1.hook_resid_post"
OPTIONS: dict[str, dict[str, Any]] = {
    "matryoshka": {"k": 4, "prefixes": [8, 24]},
    "transcoder": {"k": 4, "target_site": TARGET, "skip": True},
    "relu": {"target_l0": 6},
    "gated": {"target_l0": 6},
    "jumprelu": {"target_l0": 6},
    "clt_jumprelu": {"target_l0": 6},
    "crosscoder_l1": {"target_l0": 6},
}


CASES = [
    (name, writes)
    for name in sorted(ARCHITECTURES)
    for writes in (None, ELSEWHERE)
    if writes is None or (name != "transcoder" and SPECS[name]().only_where_it_reads is None)
]


@pytest.mark.parametrize(("name", "writes"), CASES)
def test_the_whole_way(
    name: str, writes: str | None, tiny_host: HostModel, tiny_text: TextSpec, tmp_path: Path
) -> None:
    options = OPTIONS.get(name, {"k": 4})
    spec = parse_spec(
        {
            "kind": "train",
            "text": tiny_text.model_dump(mode="json"),
            "writes": writes,
            "site": SITE,
            "sae": {"architecture": name, "d_sae": 64, "dead_after_tokens": 3000, **options},
            "training": {
                "tokens": 12_000,
                "batch_tokens": 200,
                "buffer_tokens": 2000,
                "learning_rate": 3e-3,
            },
        }
    )
    assert isinstance(spec, TrainRun)
    workspace = Workspace(tmp_path)
    made = stages.train(
        spec, tmp_path / "sae", tmp_path / "run", workspace, lambda _spec: tiny_host
    )
    # So few steps hardly learn what an MLP adds.
    assert (
        made.metrics["fvu"] < (1.2 if writes is None else 1.5) and made.metrics["density"]["counts"]
    )
    sae = SaeFolder(tmp_path / "sae", workspace)
    assert sae.sae.spec == spec.sae
    assert sae.sae.transcodes == (writes is not None or name == "transcoder")
    metrics = stages.evaluate(
        EvaluateRun(sae="x", evaluation=EvaluationSpec(tokens=500, reconstruction_tokens=2000)),
        sae,
        workspace,
        lambda _spec: tiny_host,
    )
    assert 0 < metrics["fvu"] < 1 and 0 < metrics["l0"] <= 64
    assert metrics["fvu"] < metrics["frozen_decoder_baseline"]["fvu"] + 0.05
    assert metrics["spliced_share"] > 0.9
    reader, _, _ = stages.index(
        IndexRun(sae="x", indexing=IndexingSpec(top_examples=3)),
        sae,
        lambda _text: tmp_path / "index",
        workspace,
        lambda _spec: tiny_host,
    )
    assert reader.n_features == 64 and reader.n_postings > 0


def test_a_transcoder_is_spliced_where_it_writes(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    """One that recomputes the MLP exactly from what it reads leaves the model as it is."""
    block = copy.deepcopy(tiny_host.model.model.layers[1])  # its own would be hooked

    def exact(read_ND: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = block.mlp(block.post_attention_layernorm(read_ND))
        return result

    some = create(TopKSpec(d_sae=64), tiny_host.d_model, tiny_host.d_model)
    losses = spliced_losses(
        HostedSAE.at(tiny_host, some, SITE, TARGET),
        tiny_store,
        np.arange(6),
        {"sae": exact},
        torch.zeros(tiny_host.d_model),
        200,
        lambda _tokens: None,
    )
    assert losses["sae"]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert losses["sae"]["ce_sae"] == pytest.approx(losses["ce_clean"], abs=1e-6)
    assert losses["ce_zero"] != pytest.approx(losses["ce_clean"], abs=1e-4)
