"""Leave-one-out pruning: what an evaluation with it says of an SAE with a superfluous latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy.data.store import TokenStore
from monosemy.errors import DataError, SpecError
from monosemy.evals.evaluate import evaluate_sae
from monosemy.hosted_sae import HostedSAE
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.pruning import with_pruning
from monosemy.saes.registry import create
from monosemy.specs import EvaluationSpec, TopKSpec, parse_part

SITE, WIDTH = "blocks.2.hook_resid_post", 32


def perfect_with_a_repetition() -> SAE:
    """Every direction exactly, and latent 64, which fires on every token and helps nowhere."""
    sae = create(TopKSpec(d_sae=2 * WIDTH + 1, k=2 * WIDTH + 1), WIDTH)
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([both, torch.eye(WIDTH)[:1]]))
        sae.W_enc[:, : 2 * WIDTH] = both.T
        sae.b_enc[2 * WIDTH] = 1e-3
    return sae


def test_a_view_prunes_and_leaves_the_sae_as_it_is() -> None:
    sae = perfect_with_a_repetition()
    x_ND = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(0))
    before = sae.encode(x_ND)
    view = with_pruning(sae, 1e-2)
    assert (before.of([2 * WIDTH]) > 0).all()
    kept = view.encode(x_ND)
    assert (kept.of([2 * WIDTH]) == 0).all()
    assert torch.equal(sae.encode(x_ND).values, before.values)
    # Those that help stay as they are, but for values below the limit.
    large_NK = before.values > 2e-2
    assert torch.equal(kept.values[large_NK], before.values[large_NK])
    torch.testing.assert_close(view(x_ND), sae.decode(kept, x_ND))
    nothing = with_pruning(sae, 1e9).encode(x_ND)
    assert not nothing.values.any()


def test_within_an_evaluation(tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path) -> None:
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path)
    sae = perfect_with_a_repetition()

    def evaluated(prune: float | None, writes: str | None = None) -> dict[str, Any]:
        spec = EvaluationSpec(tokens=200, reconstruction_tokens=400, prune=prune)
        hosted = HostedSAE.at(tiny_host, sae, SITE, writes)
        return evaluate_sae(hosted, None, tiny_store, source, spec)

    result = evaluated(1e-2)
    pruned = result["pruned"]
    assert result["l0"] - 1.5 < pruned["l0"] <= result["l0"] - 1
    assert pruned["fvu"] < 1e-3 and pruned["kl"] < 1e-3
    without = evaluated(None)
    assert "pruned" not in without and without["l0"] == result["l0"]
    with pytest.raises(DataError, match=r"Leave out evaluation\.prune"):
        evaluated(1e-2, writes="blocks.2.hook_mlp_out")
    with pytest.raises(SpecError, match="prune"):
        parse_part(EvaluationSpec, {"prune": -1.0})
