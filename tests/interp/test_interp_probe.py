"""The probe on planted states: what it must learn, what it must not, and whom it asks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monosemy.errors import DataError
from monosemy.interp.probe.escalation import EVERYTHING, NOTHING, Band, choose_band, fit_platt
from monosemy.interp.probe.items import JudgedItem, items_of
from monosemy.interp.probe.linear import fit_logistic, principal_axes, sigmoid, span_axes
from monosemy.interp.probe.probe import DESCRIPTION, Probe
from monosemy.interp.probe.tfidf import TfIdf
from monosemy.interp.probe.train import fit_probe
from monosemy.interp.probe.validation import folds_by_group
from tests.support.campaign import wider
from tests.support.planted_probe import made, planted


def test_a_linear_answer_is_found_and_words_are_not() -> None:
    items, states = planted(0.3)
    report = fit_probe(items, {"a:mean": states}, {}).report
    assert report.probe.value > 0.97
    assert abs(report.baseline.value - 0.5) < 0.12
    assert report.serves
    assert report.gain.low > 0.3
    assert "beats TF-IDF" in report.verdict


def test_the_view_that_holds_the_answer_is_chosen() -> None:
    items, states = planted(0.3)
    noise = np.random.default_rng(5).normal(size=states.shape)
    probe = fit_probe(items, {"noise": noise, "truth": states}, {})
    assert probe.view == "truth"
    assert set(probe.report.views) == {"truth"}


@pytest.mark.parametrize("seed", [0, *wider(1, 2)])
def test_noise_is_refused(seed: int) -> None:
    items, states = planted(0.3, seed=seed)
    states = np.random.default_rng(100 + seed).normal(size=states.shape)
    probe = fit_probe(items, {"noise": states}, {})
    assert abs(probe.report.probe.value - 0.5) < 0.12
    assert abs(probe.report.baseline.value - 0.5) < 0.12
    assert not probe.report.serves
    with pytest.raises(DataError, match="not shown to beat TF-IDF"):
        probe.check_serves()


def test_what_words_say_as_well_is_no_merit() -> None:
    items, states = planted(0.3)
    told = [
        JudgedItem(i.feature, i.explanation, i.text + (" yes" if i.answer else " no"), i.answer)
        for i in items
    ]
    report = fit_probe(told, {"a": states}, {}).report
    assert report.baseline.value > 0.97
    assert not report.serves


def test_an_answer_that_goes_with_the_feature_does_not_leak() -> None:
    features, each = 40, 8
    rng = np.random.default_rng(3)
    answers = rng.permutation(np.arange(features) % 2 == 0).repeat(each)
    states = rng.normal(size=(features, 40)).repeat(each, axis=0)
    states += 0.1 * rng.normal(size=states.shape)
    items = made(features, each, answers)
    held_out = fit_probe(items, {"a": states}, {}).report
    assert abs(held_out.probe.value - 0.5) < 0.2
    assert not held_out.serves
    # The same data split by item: what the grouping keeps out.
    loose = [JudgedItem(n, i.explanation, i.text, i.answer) for n, i in enumerate(items)]
    assert fit_probe(loose, {"a": states}, {}).report.probe.value > 0.95


def test_folds_keep_features_whole() -> None:
    groups = [f"f{i % 13}" for i in range(100)]
    fold_N = folds_by_group(groups, 5, 0)
    assert {len({fold_N[i] for i in range(100) if groups[i] == g}) for g in groups} == {1}
    sizes = np.bincount(fold_N)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 8
    assert set(folds_by_group([1, 2, 3], 5, 0)) == {0, 1, 2}
    with pytest.raises(ValueError, match="two groups"):
        folds_by_group([1, 1], 5, 0)


@pytest.mark.parametrize("wanted", [0.9, *wider(0.97)])
def test_escalation_reaches_the_wanted_agreement(wanted: float) -> None:
    items, states = planted(1.0, features=60)
    report = fit_probe(items, {"a": states}, {}, wanted).report
    assert report.agreement.value < 0.88  # alone it does not: the planted error is 16 %
    assert report.agreement_escalating.value == pytest.approx(wanted, abs=0.025)
    assert 0.05 < report.escalated.value < 0.6
    assert report.agreement_kept.value > report.agreement.value
    assert report.calibration_error < 0.06


def test_bands_by_hand() -> None:
    p_N = np.array([0.1, 0.2, 0.4, 0.55, 0.7, 0.95])
    answer_N = np.array([False, False, True, True, False, True])  # wrong at 0.4 and at 0.7
    assert choose_band(p_N, answer_N, 4 / 6) == NOTHING
    one = choose_band(p_N, answer_N, 5 / 6)
    assert one.unsure(p_N).tolist() == [False, False, True, True, False, False]
    assert choose_band(p_N, answer_N, 1.0).unsure(p_N).tolist() == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert NOTHING.unsure(np.array([0.0, 0.5, 1.0])).sum() == 0
    assert EVERYTHING.unsure(np.array([0.0, 0.5, 1.0])).all()
    with pytest.raises(ValueError, match="agreement"):
        choose_band(p_N, answer_N, 1.5)


def test_calibration_finds_the_planted_scale_and_never_turns_round() -> None:
    rng = np.random.default_rng(0)
    logit_N = 4 * rng.normal(size=20_000)
    truth_N = rng.random(20_000) < sigmoid(0.5 * logit_N - 1)
    platt = fit_platt(logit_N, truth_N)
    assert platt.slope == pytest.approx(0.5, abs=0.03)
    assert platt.shift == pytest.approx(-1, abs=0.06)
    turned = fit_platt(-logit_N, truth_N)
    assert turned.slope == 0
    assert turned.probabilities(np.zeros(1))[0] == pytest.approx(truth_N.mean(), abs=0.01)


def test_the_fit_is_the_optimum() -> None:
    rng = np.random.default_rng(1)
    x_ND, truth_N = rng.normal(size=(50, 4)), rng.random(50) < 0.5
    fitted = fit_logistic(x_ND, truth_N, 0.7)
    residual_N = sigmoid(fitted.logits(x_ND)) - truth_N
    assert x_ND.T @ residual_N + fitted.weight_D / 0.7 == pytest.approx(np.zeros(4), abs=1e-5)
    assert residual_N.sum() + 1e-3 * fitted.bias == pytest.approx(0, abs=1e-5)


def test_wide_data_are_fitted_within_their_span() -> None:
    rng = np.random.default_rng(2)
    x_ND, truth_N = rng.normal(size=(20, 35)), rng.random(20) < 0.5
    axes = span_axes(x_ND)
    small = axes.unfold(fit_logistic(axes.project(x_ND), truth_N, 0.5))
    whole = fit_logistic(x_ND, truth_N, 0.5)
    assert small.weight_D == pytest.approx(whole.weight_D, abs=1e-6)
    kept = principal_axes(x_ND, 6)
    projected_NK = kept.project(x_ND)
    assert projected_NK.T @ projected_NK / 20 == pytest.approx(np.eye(6), abs=1e-9)


def test_tfidf_by_hand() -> None:
    items = [JudgedItem(0, "red fish", "Red, red boat", True), JudgedItem(1, "sea", "boat", False)]
    words = TfIdf(items)
    x_ND = words(items)  # columns: boat fish red sea, twice, and the cosine
    assert x_ND.shape == (2, 9)
    idf = {"two": np.log(5 / 3) + 1, "one": np.log(5 / 2) + 1}
    length = np.hypot(idf["two"], 2 * idf["two"])
    assert x_ND[0, 4:8] == pytest.approx([idf["two"] / length, 0, 2 * idf["two"] / length, 0])
    shared = idf["two"] / np.hypot(idf["one"], idf["two"]) * 2 * idf["two"] / length
    assert x_ND[0, 8] == pytest.approx(2 * shared)
    assert x_ND[1].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert not words([JudgedItem(2, "unseen", "nothing", True)]).any()


def test_a_saved_probe_is_the_same_probe(tmp_path: Path) -> None:
    items, states = planted(0.5)
    probe = fit_probe(items, {"a:mean": states}, {"fingerprint": "f"})
    probe.save(tmp_path / "p")
    again = Probe.load(tmp_path / "p")
    assert np.array_equal(again.probabilities(states), probe.probabilities(states))
    assert (again.view, again.band, again.report) == (probe.view, probe.band, probe.report)
    assert again.identity == probe.identity
    file = tmp_path / "p" / DESCRIPTION
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 9}))
    with pytest.raises(DataError, match="another format"):
        Probe.load(tmp_path / "p")
    with pytest.raises(DataError, match="no probe"):
        Probe.load(tmp_path / "q")


def test_repeats_of_the_judge_are_reported_beside() -> None:
    items, states = planted(0.3, features=8)
    twice = [
        JudgedItem(i.feature, i.explanation, i.text, i.answer, i.answer if n % 4 else not i.answer)
        for n, i in enumerate(items)
    ]
    assert fit_probe(twice, {"a": states}, {}).report.repeat_agreement.value == 0.75
    assert fit_probe(items, {"a": states}, {}).report.repeat_agreement.value is None


def test_what_cannot_be_learned_from_is_refused() -> None:
    items, states = planted(0.3, features=3)
    with pytest.raises(DataError, match="4 features"):
        fit_probe(items, {"a": states}, {})
    items, states = planted(0.3, features=5)
    same = [JudgedItem(i.feature, i.explanation, i.text, True) for i in items]
    with pytest.raises(DataError, match="said the same"):
        fit_probe(same, {"a": states}, {})
    with pytest.raises(ValueError, match="row of states"):
        fit_probe(items, {"a": states[:-1]}, {})
    assert Band(0.3, 0.7).unsure(np.array([0.29, 0.3, 0.7, 0.71])).tolist() == [0, 1, 1, 0]


def test_items_come_out_of_judgements() -> None:
    from monosemy.interp.scorers.base import judgement_of
    from tests.support.interp_examples import negatives, positives, scoring_examples

    examples = scoring_examples(positives(3), negatives(2))
    judged = [
        judgement_of(tier, each, answer=None if n == 1 else n % 2 == 0)
        for n, (tier, each) in enumerate(examples.with_tiers())
    ]
    items = items_of("Cities", examples, judged, judged[:1])
    assert [item.answer for item in items] == [True, True, False, True]
    assert [item.repeat for item in items] == [True, None, None, None]
    assert "Paris" in items[0].text
    assert items[0].feature == 7
    with pytest.raises(DataError, match="no example"):
        items_of("Cities", scoring_examples([], negatives(1)), judged)
