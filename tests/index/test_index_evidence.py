"""Evidence and labels on planted features, UTF-8 across token borders included."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monosemy.data.splits import explanation_split
from monosemy.errors import DataError
from monosemy.index.evidence import (
    ClassShare,
    FeatureEvidence,
    TokenEffect,
    TokenShare,
    WordCount,
    evidence_label,
)
from monosemy.index.evidence_label import LABEL_KINDS, quote
from monosemy.index.reader import IndexReader
from monosemy.index.strongest_words import same_word, strongest_words
from monosemy.index.token_classes import CLASSES, TokenClasses
from tests.support.planted_index import Planted, plant, random_text

WORDS = (
    [" king", " King", " queen", " the", " of", ",", ".", "\n", " 1", "23", " run", " Paris"]
    + [" NASA", " walking", " talking", " singing", " eating", " reading", "ing", "ed", " Москва"]
    + [f" {c}a{c}o" for c in "bcdfghjklmnpqrstvwxyz"]
)
TABLE = [word.encode() for word in WORDS] + [b"\xe6", b"\x97", b"\xa5", b" \xe6\x9c", b"\xac"]
ID = {word: i for i, word in enumerate(WORDS)}
E6, X97, XA5, SPACE_E69C, XAC = range(len(WORDS), len(TABLE))


class _Text:
    """A text of 40 documents with two rows of 40 tokens; plants features by predicate."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.ids = rng.integers(0, len(WORDS), (80, 40))
        filler = rng.random(self.ids.shape) < 0.5
        self.ids[filler] = rng.integers(ID[" babo"], len(WORDS), int(filler.sum()))
        self.documents = [row // 2 for row in range(80)]

    def build(self, folder: Path, *fires: np.ndarray) -> IndexReader:
        """Feature i + 1 fires where ``fires[i]`` (rows x 40, the activations); 0 never does."""
        columns = [np.zeros(self.ids.size), *[f.reshape(-1).astype(float) for f in fires]]
        dense = np.stack([*columns, np.zeros(self.ids.size)], axis=1)
        dense[dense == 0] = -1.0
        return _planted(dense, self).build(folder)


def _planted(dense: np.ndarray, text: _Text) -> Planted:
    return plant(dense, [40] * 80, text.documents, text.ids.reshape(-1), TABLE)


def _labels(reader: IndexReader) -> list[str]:
    return [evidence_label(reader.evidence(f)) for f in range(1, reader.n_features - 1)]


def test_labels_of_planted_features(tmp_path: Path) -> None:
    text = _Text()
    ids = text.ids
    rng = np.random.default_rng(1)
    before = np.concatenate([np.full((80, 1), -1), ids[:, :-1]], axis=1)
    in_ing = np.isin(ids, [ID[w] for w in WORDS if w.endswith("ing")])
    first = np.zeros_like(ids)
    first[:, 0] = 1
    some = rng.random(ids.shape) < 0.02
    reader = text.build(
        tmp_path / "i",
        (ids == ID[" king"]) * 3.0,
        np.isin(ids, [ID[" king"], ID[" King"]]) * 1.0,
        np.isin(ids, [ID[","], ID["."]]) * 1.0,
        np.isin(ids, [ID[" 1"], ID["23"]]) * 1.0 + (ids == ID[" of"]) * 0.1,
        in_ing * 1.0,
        (before == ID[" the"]) * 1.0,
        (before == ID["\n"]) * 1.0,
        first * 1.0,
        (rng.random(ids.shape) < 0.41) * 1.0,
        some * 1.0,
    )
    labels = _labels(reader)
    assert labels[:3] == ['token " king" (100 %)', 'word "king" (100 %)', 'tokens ",", "." (100 %)']
    # Few tokens come before classes: they say more.
    assert labels[3].startswith("tokens ") and '" 1"' in labels[3] and '"23"' in labels[3]
    assert labels[4] == 'words ending in "ing" (100 %)'
    assert labels[5] == 'after " the" (100 %)'
    assert labels[6] == "start of line (100 %)"
    assert labels[7] == "start of row (100 %)"
    assert labels[8].startswith("dense (") and labels[8].endswith("% of tokens)")
    assert labels[9].startswith("mixed: ")
    assert evidence_label(reader.evidence(0)) == "never fired"


def test_token_figures_are_counted_on_explanation_documents_alone(tmp_path: Path) -> None:
    text = _Text()
    hashes = (np.arange(40, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
    train = np.repeat(explanation_split(hashes) == 0, 2)[:, None]
    assert 0.2 < train.mean() < 0.8
    king, queen = text.ids == ID[" king"], text.ids == ID[" queen"]
    reader = text.build(
        tmp_path / "i",
        (king & train) * 1.0 + (queen & ~train) * 5.0,
        (queen & ~train) * 1.0,
        (king & train) * 1.0 + (king & ~train) * 2.0,
    )
    split, rest, both = (reader.evidence(f) for f in (1, 2, 3))
    assert [t.text for t in split.top_tokens] == [" king"] and split.tokens_from == "train"
    assert split.top_tokens[0].fires == 1.0
    assert split.token_firings == (king & train).sum() < split.count
    assert rest.tokens_from == "all" and [t.text for t in rest.top_tokens] == [" queen"]
    assert rest.token_firings == rest.count == (queen & ~train).sum()
    assert both.top_tokens[0].count == (king & train).sum() and both.count == king.sum()


def test_shares_and_rates_are_the_measured_ones(tmp_path: Path) -> None:
    text = _Text()
    hashes = (np.arange(40, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
    train = np.repeat(explanation_split(hashes) == 0, 2)
    rng = np.random.default_rng(2)
    fires = np.where(rng.random(text.ids.shape) < 0.05, rng.random(text.ids.shape) + 0.1, 0)
    evidence = text.build(tmp_path / "i", fires).evidence(1)
    ids, acts = text.ids[train], fires[train]
    total = acts.sum()
    assert evidence.distinct_tokens == len(np.unique(ids[acts > 0]))
    for token in evidence.top_tokens:
        here = ids == token.id
        assert token.share == pytest.approx(acts[here].sum() / total, rel=1e-3)
        assert token.count == (acts[here] > 0).sum()
        assert token.fires == pytest.approx((acts[here] > 0).mean(), rel=1e-3)
    shares = [t.share for t in evidence.top_tokens]
    assert shares == sorted(shares, reverse=True) and len(shares) == 8
    for token in evidence.previous_tokens:
        after = np.zeros(ids.shape, bool)
        after[:, 1:] = ids[:, :-1] == token.id
        assert token.share == pytest.approx(acts[after].sum() / total, rel=1e-3)
        assert token.fires == pytest.approx((acts[after] > 0).mean(), rel=1e-3)
    for item in evidence.classes:
        if item.name in CLASSES:
            inside = np.vectorize(lambda t: CLASSES[item.name](WORDS[t]))(ids)  # noqa: B023
            assert item.share == pytest.approx(acts[inside].sum() / total, rel=1e-3)
            assert item.base == pytest.approx(inside.mean(), rel=1e-3)


def test_characters_split_over_tokens_are_shown_whole(tmp_path: Path) -> None:
    text = _Text()
    text.ids[:, 10:13] = [E6, X97, XA5]  # 日
    text.ids[::2, 20:22] = [SPACE_E69C, XAC]  # " 本"
    fires = [(text.ids == token) * 1.0 for token in (E6, XA5, XAC)]
    after = np.zeros(text.ids.shape)
    after[:, 13] = 1.0
    reader = text.build(tmp_path / "i", *fires, after)
    assert _labels(reader) == [
        'token "日" (100 %)',
        'token "日" (100 %)',
        'token " 本" (100 %)',
        'after "日" (100 %)',
    ]
    assert "�" not in json.dumps(reader.evidence(2).as_dict()["top_tokens"], ensure_ascii=False)
    assert "�" not in evidence_label(reader.evidence(4))


def _evidence(**changes: Any) -> FeatureEvidence:
    token = TokenShare(1, " a", 0.2, 40, 0.5)
    fields: dict[str, Any] = {
        "feature": 0,
        "count": 200,
        "density": 0.01,
        "max_activation": 5.0,
        "mean_activation": 1.0,
        "token_firings": 100,
        "distinct_tokens": 30,
        "top_tokens": [token, TokenShare(2, " b", 0.1, 20, 0.5), TokenShare(3, " c", 0.05, 9, 0.5)],
    }
    return FeatureEvidence(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({}, 'mixed: " a" (20 %), " b" (10 %), " c" (5 %)'),
        ({"classes": [ClassShare("numbers", 0.93, 0.05)]}, "numbers (93 %)"),
        ({"classes": [ClassShare("capitalised words", 0.75, 0.4)]}, "mixed"),  # lift below 2
        ({"classes": [ClassShare("numbers", 0.65, 0.01)]}, "mixed"),  # share below 0.7
        ({"ending": ClassShare("ly", 0.64, 0.02)}, 'words ending in "ly" (64 %)'),
        ({"ending": ClassShare("ly", 0.64, 0.4)}, "mixed"),
        ({"previous_tokens": [TokenShare(9, " Mr", 0.45, 40, 0.5)]}, 'after " Mr" (45 %)'),
        ({"previous_tokens": [TokenShare(9, ",", 0.45, 40, 0.02)]}, "mixed"),  # lift below 3
        (
            {
                "previous_tokens": [TokenShare(9, " Mr", 0.65, 40, 0.5)],
                "classes": [ClassShare("capitalised words", 0.9, 0.1)],
            },
            'after " Mr" (65 %)',
        ),
        (
            {"promoted": [TokenEffect(4, " of", 9.0), TokenEffect(5, " x", 2.0)], "logit_std": 1.0},
            'promotes " of"',
        ),
        ({"promoted": [TokenEffect(4, " of", 7.0)], "logit_std": 1.0}, "mixed"),
        ({"density": 0.41}, "dense (41 % of tokens)"),
        (
            {"token_firings": 4, "top_tokens": [TokenShare(1, "\n", 1.0, 4, 0.1)]},
            r'token "\n" (100 % of 4 firings)',
        ),
        ({"classes": [ClassShare("start of line", 0.7, 0.03)]}, "start of line (70 %)"),
        ({"classes": [ClassShare("start of line", 0.7, 0.3)]}, "mixed"),
    ],
)
def test_each_rule_and_its_threshold(changes: dict[str, Any], label: str) -> None:
    line = evidence_label(_evidence(**changes))
    assert line == label if label != "mixed" else line.startswith("mixed: ")


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("never fired", "never fires"),
        ("dense (41 % of tokens)", "dense"),
        ('token "dense (" (83 %)', "one or few tokens"),
        ('word "king" (83 %); most strongly "Paris" (14 of 16)', "one or few tokens"),
        ('tokens "ing", "ed" (71 %)', "one or few tokens"),
        ("start of row (61 %)", "place in a row or line"),
        ("start of line (70 %)", "place in a row or line"),
        ('after " the" (60 %)', "after a token"),
        ('words ending in "ing" (64 %)', "word ending"),
        ('promotes " of", " for"', "promotes tokens"),
        ('mixed: " a" (12 %), " b" (8 %)', "mixed"),
        *((f"{name} (93 %)", "class of tokens") for name in CLASSES),
    ],
)
def test_labels_are_of_kinds(label: str, kind: str) -> None:
    assert next(name for name, begins in LABEL_KINDS if label.startswith(begins)) == kind


def test_quotes_and_line_breaks_stay_readable() -> None:
    assert quote(" king") == '" king"'
    assert quote('"') == "'\"'"
    assert quote("\n\t") == r'"\n\t"'
    assert quote("é日") == '"é日"'


def test_classes_of_tokens() -> None:
    texts = [" 12", "\n\n", "  ", " ,", "USA", " Paris", "Paris", " und", "мир", "½", "�", "", "A"]
    classes = TokenClasses.of(texts)
    names = [
        {name for i, name in enumerate(CLASSES) if bits >> i & 1} for bits in classes.bits.tolist()
    ]
    assert names == [
        {"numbers"}, {"line breaks"}, {"white space"}, {"punctuation"}, {"words in capitals"},
        {"capitalised words"}, {"capitalised words"}, set(), {"non-Latin letters"}, {"numbers"},
        set(), set(), {"capitalised words"},
    ]  # fmt: skip
    assert classes.breaks_line.tolist() == [False, True] + [False] * 11
    assert classes.ending_names[2][classes.endings[2][7]] == "nd"
    assert classes.endings[2][3] == -1 and classes.endings[4][7] == -1


def test_evidence_is_small_and_comes_back(tmp_path: Path) -> None:
    reader = random_text(n_documents=200).build(tmp_path / "i")
    for feature in range(reader.n_features):
        evidence = reader.evidence(feature)
        data = evidence.as_dict()
        assert len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) < 2800
        again = FeatureEvidence.from_dict(json.loads(json.dumps(data)))
        assert again == evidence and evidence_label(again) == evidence_label(evidence)
    with pytest.raises(DataError):
        FeatureEvidence.from_dict({"feature": 1})
    with pytest.raises(DataError):
        FeatureEvidence.from_dict({**data, "top_tokens": [{"nonsense": 1}]})


def test_what_it_fires_on_most_strongly_stands_beside_what_it_fires_on_most_often(
    tmp_path: Path,
) -> None:
    """A feature of many words, the strongest at one; another in a word of three tokens."""
    text = _Text()
    names = (text.ids >= ID[" babo"]) & (text.ids < len(WORDS))
    numbers = np.isin(text.ids, [ID[" 1"], ID["23"]])
    for row in range(0, 80, 2):  # once in each document, amid words
        text.ids[row, 7:10] = ID[" babo"], ID[" Paris"], ID[" babo"]
        text.ids[row, 20:23] = ID[" walking"], ID[" walking"], ID[","]
        text.ids[row, 21] = ID["ing"] if row % 4 else ID["ed"]
    names[:, 7:10] = numbers[:, 7:10] = names[:, 20:23] = numbers[:, 20:23] = False
    strong = np.zeros_like(names)
    strong[::2, 8] = True
    forms = np.isin(text.ids, [ID["ing"], ID["ed"]]) & (np.roll(text.ids, 1, 1) == ID[" walking"])
    reader = text.build(
        tmp_path / "i", np.where(strong, 4.5, names * 4.0), np.where(forms, 9.0, numbers * 4.0)
    )
    first, second = (evidence_label(reader.evidence(feature)) for feature in (1, 2))
    often, strongly = first.split("; most strongly ")
    assert '"Paris"' not in often and strongly == '"Paris" (16 of 16)'
    evidence = reader.evidence(2)
    assert evidence.strongest_firings == 16
    [word] = evidence.strongest_words
    assert word.count == 16 and word.word in ("walkinging", "walkinged")
    assert second.endswith(f'; most strongly "{word.word}" (16 of 16)'), second


@pytest.mark.parametrize(
    ("label", "words", "expected"),
    [
        ("numbers (93 %)", [("Paris", 14), ("Rome", 2)], '; most strongly "Paris" (14 of 16)'),
        ("numbers (93 %)", [("Paris", 7), ("Rome", 2)], ""),  # less than half
        ('token " king" (93 %)', [("kings", 14)], ""),  # named already
        ('tokens " king", " ring" (93 %)', [("throne", 14)], '; most strongly "throne" (14 of 16)'),
        ("mixed", [(",", 12)], '; most strongly "," (12 of 16)'),
    ],
)
def test_a_word_is_added_where_the_label_does_not_name_it(
    label: str, words: list[tuple[str, int]], expected: str
) -> None:
    made: dict[str, dict[str, Any]] = {
        "numbers (93 %)": {"classes": [ClassShare("numbers", 0.93, 0.05)]},
        'token " king" (93 %)': {"top_tokens": [TokenShare(1, " king", 0.93, 40, 0.5)]},
        'tokens " king", " ring" (93 %)': {
            "top_tokens": [
                TokenShare(1, " king", 0.49, 40, 0.5),
                TokenShare(2, " ring", 0.44, 40, 0.5),
            ]
        },
        "mixed": {},
    }
    listed = [WordCount(*word) for word in words]
    evidence = _evidence(strongest_firings=16, strongest_words=listed, **made[label])
    plain = evidence_label(replace(evidence, strongest_firings=0, strongest_words=[]))
    assert plain == label or plain.startswith(label)
    assert evidence_label(evidence) == plain + expected
    few = replace(evidence, strongest_firings=7)
    assert evidence_label(few) == plain


def test_forms_of_a_word() -> None:
    assert strongest_words(["astronaut", "Astronauts", "astronaut", "comet"]) == [
        WordCount("astronaut", 3),
        WordCount("comet", 1),
    ]
    for a, b in (("walk", "walking"), ("happy", "happily"), ("king", "kings"), ("ox", "ox")):
        assert same_word(a, b) and same_word(b, a)
    for a, b in (("king", "ring"), ("inter", "international"), ("1990", "1991"), ("can", "cans")):
        assert not same_word(a, b) and not same_word(b, a)


def test_evidence_of_an_index_of_before_is_read(tmp_path: Path) -> None:
    data = random_text(n_documents=50).build(tmp_path / "i").evidence(1).as_dict()
    old = {key: value for key, value in data.items() if not key.startswith("strongest")}
    evidence = FeatureEvidence.from_dict(old)
    assert evidence.strongest_firings == 0 and evidence.strongest_words == []
    assert "most strongly" not in evidence_label(evidence)
