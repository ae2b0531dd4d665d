"""Correlations against numpy, scipy and hand-made numbers; coverage of planted truths."""

import time

import numpy as np
import pytest

from monosemy.interp.statistics.correlation import (
    calibrated_r_squared,
    deviation_explained,
    linear_calibration,
    pearson,
    pearson_interval,
    r_squared,
    spearman,
    spearman_interval,
    undefined,
)
from tests.support.campaign import wider

REAL, SIMULATED = [0.0, 0.0, 4.0, 8.0], [0.0, 2.0, 4.0, 6.0]


def test_the_scores_by_hand() -> None:
    # Means 3 and 3; deviations (-3, -3, 1, 5) and (-3, -1, 1, 3): 28 / sqrt(44 * 20).
    assert pearson(REAL, SIMULATED) == pytest.approx(28 / np.sqrt(880))
    # Ranks (1.5, 1.5, 3, 4) and (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5).
    assert spearman(REAL, SIMULATED) == pytest.approx(4.5 / np.sqrt(22.5))
    # Errors (0, -2, 0, 2): 1 - 8 / 80 and 1 - 4 / 12.
    assert r_squared(REAL, SIMULATED) == pytest.approx(0.9)
    assert deviation_explained(REAL, SIMULATED) == pytest.approx(2 / 3)
    # A simulation of nothing explains nothing, a perfect one all.
    assert r_squared(REAL, [0] * 4) == deviation_explained(REAL, [0] * 4) == 0.0
    assert r_squared(REAL, REAL) == deviation_explained(REAL, REAL) == 1.0


def test_agreement_with_numpy_and_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for n in (2, 7, 300):
        x, y = rng.normal(size=n) + 1e4, np.round(rng.normal(size=n), 1)
        y[0] += 1
        assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
        assert r_squared(x, y) == pytest.approx(1 - np.mean((x - y) ** 2) / np.mean(x**2))


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ([1, 1, 1], [1, 2, 3], "the real activations are constant"),
        ([1, 2, 3], [0.1] * 3, "the simulated activations are constant"),
        ([0, 0], [5, 5], "the real and the simulated activations are constant"),
        ([1], [2], "there are fewer than two tokens"),
        ([], [], "there are fewer than two tokens"),
    ],
)
def test_undefined_correlations_say_why(x: list[float], y: list[float], reason: str) -> None:
    assert undefined(x, y) == reason
    assert pearson(x, y) is None
    for estimate in (pearson_interval(x, y, [*range(len(x))]), spearman_interval(x, y, x)):
        assert (estimate.value, estimate.low, estimate.high, estimate.n) == (
            None,
            -1.0,
            1.0,
            len(x),
        )
        assert estimate.reason == reason


def test_nothing_real_explains_nothing() -> None:
    assert r_squared([0, 0], [1, 2]) is None
    assert deviation_explained([0, 0], [1, 2]) is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        pearson([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite"):
        pearson([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="one cluster per pair"):
        pearson_interval([1, 2], [1, 2], [0])


# -------------------------------------------------------------------- calibration
def test_linear_calibration_leaves_pearson_and_mends_r_squared() -> None:
    rng = np.random.default_rng(1)
    simulated = rng.uniform(0, 10, 400)
    real = 0.3 * simulated + 1 + rng.normal(size=400)
    line = linear_calibration(real, simulated)
    slope, intercept = np.polyfit(simulated, real, 1)
    assert (line.slope, line.intercept) == (pytest.approx(slope), pytest.approx(intercept))
    calibrated = line(simulated)
    assert pearson(real, calibrated) == pytest.approx(pearson(real, simulated))
    before, after = r_squared(real, simulated), r_squared(real, calibrated)
    assert before is not None
    assert after is not None
    assert before < 0.2 < 0.8 < after


def test_a_constant_simulation_calibrates_to_the_mean() -> None:
    line = linear_calibration([1, 2, 6], [4, 4, 4])
    assert (line.slope, line.intercept) == (0.0, pytest.approx(3.0))
    assert linear_calibration([], []).intercept == 0.0


def test_cross_calibration_is_leaving_out_by_hand() -> None:
    rng = np.random.default_rng(2)
    real, simulated = rng.uniform(0, 10, (2, 30))
    clusters = np.repeat(np.arange(5), 6)
    fitted = np.empty(30)
    for cluster in range(5):
        rest = clusters != cluster
        fitted[~rest] = linear_calibration(real[rest], simulated[rest])(simulated[~rest])
    wanted = r_squared(real, fitted)
    assert calibrated_r_squared(real, simulated, clusters.tolist()) == pytest.approx(wanted)
    assert calibrated_r_squared(real, simulated, [0] * 30) is None


# -------------------------------------------------------------------- intervals
def planted(m: int, rng: np.random.Generator, tokens: int = 33) -> tuple[np.ndarray, np.ndarray]:
    """``[m, tokens]`` twice: contexts, half of them with activations, simulated with a quality that
    differs by context, so that tokens of one context are far from independent."""
    place = rng.random((m, tokens)).argsort(axis=1)
    active = (place < rng.integers(1, 4, (m, 1))) & (np.arange(m) % 2 == 0)[:, None]
    real = np.where(active, rng.uniform(2, 10, (m, tokens)), 0.0)
    quality = rng.uniform(0.2, 1.0, (m, 1))
    false = (rng.random((m, tokens)) < 0.03) * rng.uniform(1, 6, (m, tokens))
    return real, real * quality * (rng.random((m, tokens)) < 0.8) + false


def by_naive_bootstrap(measure: object, real: np.ndarray, simulated: np.ndarray, seed: int) -> list:
    m = len(real)
    weights = np.random.default_rng(seed).multinomial(m, np.full(m, 1 / m), size=1000)
    picks = [np.repeat(np.arange(m), row) for row in weights]
    return [measure(real[pick].ravel(), simulated[pick].ravel()) for pick in picks]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("measure", "interval"), [(pearson, pearson_interval), (spearman, spearman_interval)]
)
def test_intervals_equal_a_naive_bootstrap(measure: object, interval: object) -> None:
    stats = pytest.importorskip("scipy.stats")
    real, simulated = planted(12, np.random.default_rng(3))
    clusters = np.repeat(np.arange(12), 33).tolist()
    estimate = interval(real.ravel(), simulated.ravel(), clusters, seed=9)  # type: ignore[operator]
    values = by_naive_bootstrap(measure, real, simulated, 9)
    tail = stats.norm.cdf(-np.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    wanted = np.quantile(values, [tail, 1 - tail])
    assert [estimate.low, estimate.high] == pytest.approx(wanted.tolist(), abs=2e-3)
    assert estimate.value == measure(real.ravel(), simulated.ravel())  # type: ignore[operator]
    assert (estimate.n, estimate.clusters, estimate.reason) == (396, 12, None)


def test_intervals_depend_on_the_seed_alone_and_on_clusters() -> None:
    real, simulated = planted(20, np.random.default_rng(4))
    x, y = real.ravel(), simulated.ravel()
    contexts = np.repeat(np.arange(20), 33)
    one = pearson_interval(x, y, contexts.tolist(), seed=1)
    assert one == pearson_interval(x, y, [f"d{i}" for i in contexts], seed=1)
    assert one != pearson_interval(x, y, contexts.tolist(), seed=2)
    # Pairs of contexts from one document are fewer observations; one document shows no spread.
    assert pearson_interval(x, y, (contexts // 2).tolist()).clusters == 10
    whole = pearson_interval(x, y, [0] * len(x))
    assert (whole.low, whole.high) == (-1.0, 1.0)
    wider = pearson_interval(x, y, contexts.tolist(), seed=1, z=2.576)
    assert wider.low < one.low < one.high < wider.high


def test_a_perfect_simulation_has_no_spread() -> None:
    real, _ = planted(20, np.random.default_rng(5))
    clusters = np.repeat(np.arange(20), 33).tolist()
    for interval in (pearson_interval, spearman_interval):
        estimate = interval(real.ravel(), 3 * real.ravel() + 1, clusters)
        assert estimate.value == pytest.approx(1.0)
        assert estimate.low == pytest.approx(1.0)
        opposite = interval(real.ravel(), -real.ravel(), clusters)
        assert (opposite.value, opposite.high) == (pytest.approx(-1.0), pytest.approx(-1.0))


def test_one_document_with_all_activations_leaves_the_interval_wide() -> None:
    real = [0.0] * 30 + [9.0, 0.0, 0.0]
    simulated = [0.0] * 29 + [3.0, 8.0, 0.0, 0.0]
    estimate = pearson_interval(real, simulated, [*range(30), 30, 30, 30])
    assert estimate.value is not None
    # Over a third of the resamples have no activation: those that have one still bound it.
    assert estimate.low < 0.95 < estimate.high


@pytest.mark.parametrize("contexts", [20, *wider(60)])
def test_coverage_is_nominal(contexts: int) -> None:
    rng = np.random.default_rng(6)
    truth = np.corrcoef(*(part.ravel() for part in planted(40_000, rng)))[0, 1]
    clusters = np.repeat(np.arange(contexts), 33).tolist()
    hits = 0
    for seed in range(600):
        real, simulated = planted(contexts, rng)
        estimate = pearson_interval(real.ravel(), simulated.ravel(), clusters, seed=seed)
        hits += estimate.low <= truth <= estimate.high
    # 95 %, give or take what 600 trials show (three standard errors: 2.7 %).
    assert 0.923 <= hits / 600 <= 0.977


def test_a_thousand_resamples_cost_milliseconds() -> None:
    real, simulated = planted(40, np.random.default_rng(7))
    clusters = np.repeat(np.arange(40), 33).tolist()
    times = []
    for _ in range(5):
        started = time.perf_counter()
        pearson_interval(real.ravel(), simulated.ravel(), clusters)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05
