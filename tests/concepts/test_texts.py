"""Texts of a concept: uses, near duplicates, mistakes, thresholds, and what cannot be used."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from pydantic import ValidationError

from monosemy.concepts.texts import cut, groups, misspelt, plain
from monosemy.concepts.threshold import find_threshold, least_texts
from monosemy.errors import DataError
from monosemy.specs import ConceptRun

WORDS = ["amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "haven", "ivory"]
WORDS += ["jetty", "kayak", "lemon"]
TARGETS = [f"The {a} whale swims past the {b} coast" for a, b in combinations(WORDS, 2)]
RETAIN = [f"A {b} clock stands in my {a} kitchen" for a, b in combinations(WORDS, 2)]


def test_near_duplicates_are_never_on_both_sides() -> None:
    twins = [text.upper() + "!" for text in TARGETS[:5]] + [TARGETS[7] + "s"]
    uses = cut([*TARGETS, *twins], RETAIN, [], 0.3, 0.3, 0)
    assert uses.repeated == 5
    sides = [
        *((text, 0) for text in (*uses.fit_targets, *uses.fit_retain)),
        *((text, 1) for text in uses.threshold_retain),
        *((text, 2) for text in (*uses.test_targets, *uses.test_retain)),
    ]
    assert len(sides) == len(TARGETS) + 1 + len(RETAIN)
    used = dict(sides)
    assert used[TARGETS[7]] == used[twins[5]]
    number = groups([text for text, _ in sides])
    by_group: dict[int, set[int]] = {}
    for group, (_, side) in zip(number.tolist(), sides, strict=True):
        by_group.setdefault(group, set()).add(side)
    assert all(len(each) == 1 for each in by_group.values())
    assert cut(TARGETS, RETAIN, [], 0.3, 0.3, 0) == cut(TARGETS, RETAIN, [], 0.3, 0.3, 0)
    assert cut(TARGETS, RETAIN, [], 0.3, 0.3, 0) != cut(TARGETS, RETAIN, [], 0.3, 0.3, 1)


def test_retain_texts_alike_to_targets_set_the_threshold_as_often_as_they_are_tested_on() -> None:
    """Else it would be too low for them: they score higher than others."""
    draw = random.Random(0)
    bases = [" ".join(draw.sample(WORDS, 9)) for _ in range(60)]
    targets = [*(f"{base} king" for base in bases[:30]), *TARGETS]
    retain = [*(f"{base} ring" for base in bases), *RETAIN]
    close = set(retain[:30])
    number = groups([*targets, *retain]).tolist()
    assert all(number[i] == number[len(targets) + i] for i in range(30))
    shares, alarms = [], []
    for seed in range(60):
        uses = cut(targets, retain, [], 0.3, 0.3, seed)
        for texts in (uses.threshold_retain, uses.test_retain, uses.fit_retain):
            assert len(texts) >= 36
        used = [uses.threshold_retain, uses.test_retain]
        shares.append([sum(text in close for text in texts) / len(texts) for texts in used])
        scores = {text: draw.gauss(2 if text in close else 0, 1) for text in retain}
        threshold = find_threshold([scores[text] for text in used[0]], 0.05, None).value
        alarms.append(sum(scores[text] > threshold for text in used[1]) / len(used[1]))
        # What is fitted to is alike to nothing that is tested on or sets the threshold.
        fitted = {plain(text) for text in (*uses.fit_targets, *uses.fit_retain)}
        rest = [*uses.test_targets, *uses.test_retain, *uses.threshold_retain]
        groups_of = dict(zip([*targets, *retain], number, strict=True))
        assert not {groups_of[t] for t in rest} & {
            groups_of[t] for t in groups_of if plain(t) in fitted
        }
        assert len(uses.fit_targets) + len(uses.test_targets) == len(targets)
    ours, tested = (sum(each[place] for each in shares) / len(shares) for place in (0, 1))
    assert abs(ours - tested) < 0.04 and ours > 0.15
    assert sum(alarms) / len(alarms) < 0.06


def test_paraphrases_of_what_was_fitted_are_left_out() -> None:
    first = cut(TARGETS, RETAIN, [], 0.3, 0.3, 0)
    given = [first.fit_targets[0] + ".", "Leviathans of the deep"]
    uses = cut(TARGETS, RETAIN, given, 0.3, 0.3, 0)
    assert uses.paraphrases == ("Leviathans of the deep",) and uses.left_out == 1
    with pytest.raises(DataError, match="paraphrase is to be retained"):
        cut(TARGETS, RETAIN, [RETAIN[0].lower()], 0.3, 0.3, 0)


def test_mistakes_are_ours_and_the_same_for_one_seed() -> None:
    for number, text in enumerate([*TARGETS[:30], "x", "Ii", "42 !"]):
        wrong = misspelt(text, f"0 {number}")
        assert wrong == misspelt(text, f"0 {number}")
        if any(c.isalpha() for c in text):
            assert wrong != text and wrong.strip() and abs(len(wrong) - len(text)) <= 3
    assert misspelt("42 !", "0") == "42 !"
    assert len({misspelt(TARGETS[0], str(seed)) for seed in range(20)}) > 5


def test_what_cannot_be_cut_is_told() -> None:
    for targets, retain, reason in (
        (TARGETS, [*RETAIN, TARGETS[0].upper()], "both targets and to be retained"),
        (TARGETS[:1], RETAIN, "There is one target text"),
        (TARGETS, RETAIN[:1] * 4, "There is one retain text"),
        ([*TARGETS, "  "], RETAIN, "is empty"),
        (TARGETS[:2], RETAIN, "too few targets"),
        (TARGETS, RETAIN[:4], "too few retain texts"),
        ([f"{TARGETS[0]}{'.' * n}x" for n in range(8)], RETAIN, "target"),
    ):
        with pytest.raises(DataError, match=reason):
            cut(targets, retain, [], 0.3, 0.3, 0)
    for change in ({"retain": []}, {"targets": []}, {"test_share": 0.7, "threshold_share": 0.5}):
        with pytest.raises(ValidationError):
            ConceptRun(**{"name": "x", "sae": "demo", "targets": ["a"], "retain": ["b"], **change})
    assert plain("Ｗhales,  ARE\tbig!") == "whales are big"


def test_the_least_number_of_texts_is_told() -> None:
    assert [least_texts(a, None) for a in (0.5, 0.1, 0.05, 0.01)] == [1, 9, 19, 99]
    assert [least_texts(a, 0.95) for a in (0.05, 0.01)] == [59, 299]
    for wanted, sure in ((0.05, None), (0.05, 0.95), (0.2, 0.9)):
        least = least_texts(wanted, sure)
        with pytest.raises(DataError, match=f"needs {least} retain texts"):
            find_threshold([0.0] * (least - 1), wanted, sure)
        found = find_threshold(list(range(least)), wanted, sure)
        assert found.value == least - 1 and found.above == 0 and found.least == least


@pytest.mark.parametrize("sure", [None, 0.9])
def test_false_alarms_are_held_to_what_is_wanted(sure: float | None) -> None:
    """On average, or in a share of trials that is the confidence; by uniform scores, whose rate
    above a threshold is known."""
    draw = random.Random(0)
    rates = []
    for _ in range(1500):
        found = find_threshold([draw.random() for _ in range(60)], 0.1, sure)
        rates.append(1 - found.value)
    average = sum(rates) / len(rates)
    if sure is None:
        assert 0.08 < average <= 0.103
    else:
        kept = sum(rate <= 0.1 for rate in rates) / len(rates)
        assert 0.88 <= kept < 0.99 and average > 0.03


def test_what_chance_alone_may_show_is_known() -> None:
    """By uniform scores: the share above a threshold of 60 others, of 40 that are tested."""
    draw = random.Random(1)
    above = []
    for _ in range(2000):
        found = find_threshold([draw.random() for _ in range(60)], 0.1, None, 40)
        above.append(sum(draw.random() > found.value for _ in range(40)) / 40)
    assert found.by_chance is not None
    assert sum(each <= found.by_chance for each in above) / 2000 >= 0.93
    assert sum(each >= found.by_chance for each in above) / 2000 >= 0.04
    assert find_threshold([0.0] * 60, 0.1, None).by_chance is None


def test_ties_are_not_flagged() -> None:
    found = find_threshold([0.0] * 40, 0.05, None)
    assert found.value == 0.0 and found.above == 0 and found.bound < 0.2
