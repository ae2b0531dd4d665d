"""The effective L0 of SAEs whose needed latents are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monosemy.evals.effective_l0 import (
    Contributions,
    contributions,
    cut,
    effective_l0,
    sample_contributions,
)
from monosemy.evals.evaluate import evaluate_sae
from monosemy.hosted_sae import HostedSAE
from monosemy.models.activations import ActivationSource
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import EvaluationSpec, ReLUSpec

if TYPE_CHECKING:
    from pathlib import Path

    from monosemy.data.store import TokenStore
    from monosemy.models.host import HostModel

D, LARGE, TINY = 8, 3, 40


def planted(scale: float = 1.0) -> SAE:
    """On ``data()``, ``LARGE`` latents with contributions around 1 and ``TINY`` of about 1e-4."""
    sae = create(ReLUSpec(d_sae=LARGE + TINY), D)
    rows = torch.nn.functional.normalize(torch.randn(LARGE + TINY, D, generator=seeded(0)), dim=1)
    rows[:LARGE] = torch.eye(D)[:LARGE]
    with torch.no_grad():
        sae.W_dec.copy_(rows / scale)
        sae.W_enc[:, :LARGE] = torch.eye(D)[:, :LARGE] * scale
        sae.b_enc[LARGE:] = torch.linspace(0.5e-4, 1.5e-4, TINY) * scale
    return sae.requires_grad_(False)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(n: int = 400) -> Tensor:
    x = torch.zeros(n, D)
    x[:, :LARGE] = 1 + torch.rand(n, LARGE, generator=seeded(1))
    return x


class Rows:
    """A source of ten rows."""

    width = D

    def rows(self, rows: Any) -> tuple[Tensor, Any]:
        return data().view(10, 40, D)[torch.as_tensor(rows)].reshape(-1, D), None

    def flush(self) -> None:
        return None


def sampled(sae: SAE) -> Contributions:
    return sample_contributions(sae, Rows(), np.arange(10), 400)


def squared_error(decodes: Any) -> list[float]:
    """Stands in for the host model: a loss that knows what is missing of the whole."""
    x, whole = data(), planted()(data())
    return [float((decode(x) - whole).double().pow(2).sum(1).mean()) for decode in decodes]


def test_of_many_tiny_contributions_none_is_needed() -> None:
    effective = effective_l0(planted(), sampled(planted()), squared_error, 0.1)
    assert effective["l0_whole"] == LARGE + TINY
    assert effective["l0"] == pytest.approx(LARGE, rel=0.03)
    assert 1.5e-4 < effective["threshold"] < 1.2 and effective["cett"] < 0.01
    assert effective["ce_cut"] <= effective["ce_whole"] + math.log1p(0.1 / 100)


def test_the_more_loss_is_allowed_the_fewer_are_needed() -> None:
    sae, sample = planted(), sampled(planted())
    l0s = [effective_l0(sae, sample, squared_error, p)["l0"] for p in (1e-9, 0.1, 10, 100, 1000)]
    assert l0s == sorted(l0s, reverse=True)
    assert l0s[0] > 3 * LARGE and l0s[-1] < LARGE


def test_the_next_threshold_would_cost_more_than_allowed() -> None:
    sae, sample = planted(), sampled(planted())
    effective = effective_l0(sae, sample, squared_error, 20.0)
    (beyond,) = squared_error([cut(sae, effective["threshold"] * 1.05)])
    assert effective["ce_cut"] <= effective["ce_whole"] + math.log1p(0.2) < beyond


def test_the_scale_of_activations_does_not_matter() -> None:
    one = effective_l0(planted(), sampled(planted()), squared_error, 20.0)
    other = effective_l0(planted(7.0), sampled(planted(7.0)), squared_error, 20.0)
    assert other == pytest.approx(one, rel=1e-3)


def test_contributions_and_cett_by_hand() -> None:
    sae = planted(7.0)
    codes = sae.encode(data(5))
    sizes = contributions(sae, codes).gather(1, codes.indices.argsort(1))
    torch.testing.assert_close(sizes[:, :LARGE], data(5)[:, :LARGE])
    # Without the first LARGE - 1 of a token, their length is left out of the whole.
    sample = sampled(planted())
    x = data()[:, :LARGE]
    limit = 1.5
    left = torch.where(x < limit, x, 0.0).norm(dim=1) / x.norm(dim=1)
    assert sample.cett(limit) == pytest.approx(float(left.mean()), abs=2e-3)
    assert (sample.cett(0.0), sample.l0(0.0)) == (0.0, LARGE + TINY)


def test_where_nothing_fires_nothing_is_needed() -> None:
    silent = planted()
    with torch.no_grad():
        silent.b_enc.fill_(-9.0)
    effective = effective_l0(silent, sampled(silent), squared_error, 1.0)
    assert (effective["l0"], effective["l0_whole"]) == (0.0, 0.0)


def test_within_an_evaluation(tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path) -> None:
    """A perfect SAE with many tiny latents beside: they are found not to be needed."""
    site, width = "blocks.2.hook_resid_post", 32
    sae = create(ReLUSpec(d_sae=2 * width + TINY), width)
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    with torch.no_grad():
        sae.W_dec.copy_(torch.cat([both, torch.ones(TINY, width) / width**0.5]))
        sae.W_enc[:, : 2 * width] = both.T
        sae.b_enc[2 * width :] = 1e-6
    source = ActivationSource(tiny_host, tiny_store, site, tmp_path)
    spec = EvaluationSpec(tokens=300, reconstruction_tokens=600, ppl_percent=1.0)
    hosted = HostedSAE.at(tiny_host, sae, site)
    effective = evaluate_sae(hosted, None, tiny_store, source, spec)["effective_l0"]
    assert effective["l0_whole"] == pytest.approx(width + TINY, abs=1)
    assert 0 < effective["l0"] <= width
    assert effective["ce_cut"] <= effective["ce_whole"] + math.log1p(0.01)
    without = EvaluationSpec(tokens=300, reconstruction_tokens=600)
    assert "effective_l0" not in evaluate_sae(hosted, None, tiny_store, source, without)
