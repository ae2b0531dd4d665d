"""FVU and its companions against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from monosemy.evals.reconstruction import reconstruction_sums
from monosemy.models.columns import Columns
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec

D, F, K, TOKENS_PER_ROW = 12, 40, 3, 7


class Rows:
    """Rows of seven tokens each, far from the origin."""

    width = D

    def __init__(self, n_rows: int = 60) -> None:
        generator = torch.Generator().manual_seed(0)
        self.acts = torch.randn(n_rows * TOKENS_PER_ROW, D, generator=generator) + 50.0

    def rows(self, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        at = np.concatenate([np.arange(r * TOKENS_PER_ROW, (r + 1) * TOKENS_PER_ROW) for r in rows])
        return self.acts[torch.from_numpy(at)], at

    def flush(self) -> None:
        pass


def limited(max_norm: float | None) -> Columns:
    return Columns((slice(None),), None, None if max_norm is None else (max_norm,))


def some_sae() -> SAE:
    sae = create(TopKSpec(d_sae=F, k=K), D)
    sae.initialise(torch.Generator().manual_seed(1))
    with torch.no_grad():
        sae.b_dec.fill_(50.0)
        sae.b_enc[10:] -= 2.0
    return sae


def metrics_of(
    sae: SAE, source: Rows, max_tokens: int = 10**6, max_norm: float | None = None
) -> dict[str, Any]:
    """Over the first ``max_tokens`` tokens of the 60 rows."""
    read: list[int] = []
    columns = limited(max_norm)
    (sums,) = reconstruction_sums([sae], source, np.arange(60), max_tokens, read.append, columns)
    metrics = sums.metrics()
    assert sum(read) == metrics["tokens"]
    return metrics


def by_numpy(sae: SAE, acts: torch.Tensor) -> dict[str, float]:
    x = acts.double().numpy()
    W_enc, b_enc, W_dec, b_dec = (
        p.detach().double().numpy() for p in (sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec)
    )
    pre = (x - b_dec) @ W_enc + b_enc
    codes = np.zeros_like(pre)
    for n, row in enumerate(pre):
        best = np.argsort(-row)[:K]
        codes[n, best] = np.maximum(row[best], 0)
    error = x - (codes @ W_dec + b_dec)
    return {
        "fvu": (error**2).sum() / ((x - x.mean(0)) ** 2).sum(),
        "l0": (codes > 0).sum(1).mean(),
        "dead_share": 1 - (codes > 0).any(0).mean(),
        "tokens": len(x),
    }


def test_metrics_are_those_of_numpy() -> None:
    source, sae = Rows(), some_sae()
    metrics = metrics_of(sae, source)
    expected = by_numpy(sae, source.acts)
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert 0 < metrics["dead_share"] < 1 and 0 < metrics["l0"] < K


def test_max_tokens_is_kept_to_the_token() -> None:
    source, sae = Rows(), some_sae()
    metrics = metrics_of(sae, source, 130)
    assert metrics == pytest.approx(by_numpy(sae, source.acts[:130]), rel=1e-5)
    assert metrics["tokens"] == 130


def test_tokens_above_the_norm_do_not_count() -> None:
    source, sae = Rows(), some_sae()
    clean = metrics_of(sae, source)
    source.acts[[3, 50, 200]] *= 100.0
    ordinary = np.setdiff1d(np.arange(420), [3, 50, 200])
    metrics = metrics_of(sae, source, max_norm=1000.0)
    assert metrics == pytest.approx(
        by_numpy(sae, source.acts[torch.from_numpy(ordinary)]), rel=1e-5
    )
    assert metrics["tokens"] == 417 and clean["tokens"] == 420


def test_the_mean_is_no_explanation_and_identity_is_a_whole_one() -> None:
    source = Rows()
    nothing = create(TopKSpec(d_sae=F, k=K), D)
    with torch.no_grad():
        nothing.b_dec.copy_(source.acts.double().mean(0))
    metrics = metrics_of(nothing, source)
    assert metrics["fvu"] == pytest.approx(1.0, rel=1e-5)
    assert (metrics["l0"], metrics["dead_share"]) == (0.0, 1.0)
    # +e_i and -e_i with all of them allowed reconstruct anything.
    perfect = create(TopKSpec(d_sae=2 * D, k=2 * D), D)
    with torch.no_grad():
        perfect.W_dec.copy_(torch.cat([torch.eye(D), -torch.eye(D)]))
        perfect.W_enc.copy_(perfect.W_dec.T)
    metrics = metrics_of(perfect, source)
    assert metrics["fvu"] < 1e-10 and metrics["l0"] == pytest.approx(D)


@pytest.mark.parametrize("max_norm", [None, 1000.0])
def test_tokens_that_are_no_numbers_do_not_count(max_norm: float | None) -> None:
    source, sae = Rows(), some_sae()
    source.acts[3, 2], source.acts[50, 0] = float("inf"), float("nan")
    usable = torch.from_numpy(np.setdiff1d(np.arange(420), [3, 50]))
    metrics = metrics_of(sae, source, max_norm=max_norm)
    assert metrics == pytest.approx(by_numpy(sae, source.acts[usable]), rel=1e-5)


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 7.7])
def test_activations_that_do_not_vary_have_no_fvu(constant: float) -> None:
    source = Rows()
    source.acts[:] = constant  # not all of these add up exactly
    assert metrics_of(some_sae(), source)["fvu"] is None
