"""Texts of a concept: checked, cut into uses (near duplicates share one), misspelt.  No torch."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monosemy.errors import DataError
from monosemy.figures import plural

ALIKE = 0.8
"""Share of common pieces (Jaccard) from which on two texts are near duplicates."""
_PIECE = 4
"""Characters of a piece."""
LEAST = 2
"""Texts that every use needs, of each kind."""
_NEIGHBOURS = {
    **{"a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj"},
    **{"i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o"},
    **{"q": "wa", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc"},
    **{"y": "tu", "z": "x"},
}
"""Of letters on a keyboard."""
_LETTERS_PER_MISTAKE = 15


@dataclass(frozen=True)
class Uses:
    """What each text is used for."""

    fit_targets: tuple[str, ...]
    fit_retain: tuple[str, ...]
    threshold_retain: tuple[str, ...]
    test_targets: tuple[str, ...]
    test_retain: tuple[str, ...]
    misspelt: tuple[str, ...]
    """``test_targets`` with mistakes."""
    paraphrases: tuple[str, ...]
    repeated: int
    left_out: int


def plain(text: str) -> str:
    """``text`` without what does not make another text of it: case, blanks, punctuation, forms of
    one letter."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(c if c.isalnum() else " " for c in folded).split()
    return " ".join(words) or folded.strip()


def cut(
    targets: Sequence[str],
    retain: Sequence[str],
    paraphrases: Sequence[str],
    test_share: float,
    threshold_share: float,
    seed: int,
) -> Uses:
    """Texts at random for each use; near duplicates, of whatever kind, have the same one, but for
    targets alike to what sets the threshold, which are tested on.

    ``DataError`` for a text that is in both sets or empty, and where a use has too few.
    """
    chosen = [_distinct(targets, "target"), _distinct(retain, "retain")]
    both = {plain(text) for text in chosen[0]} & {plain(text) for text in chosen[1]}
    if both:
        raise DataError(
            f"{plural(len(both), 'text is', 'texts are')} both targets and to be retained:"
            f" {sorted(both)[0]!r:.80}.",
            "A text belongs into one of the sets.",
        )
    texts = [*chosen[0], *chosen[1]]
    is_target = np.arange(len(texts)) < len(chosen[0])
    group_N = groups(texts)
    draw = random.Random(f"uses {seed}")
    tested = _drawn(group_N, is_target, (test_share, test_share), draw, np.zeros(len(texts), bool))
    # Retain texts alike to targets are as likely to set the threshold as to be tested on, or it
    # would be too low for them.  The targets of their groups, which no threshold needs, are tested
    # on: what they are alike to chose nothing.
    left = _drawn(group_N, is_target, (None, threshold_share), draw, tested)
    tested |= left & is_target
    fitted = ~tested & ~left

    def of(use: np.ndarray, target: bool) -> tuple[str, ...]:
        return tuple(texts[i] for i in np.flatnonzero(use & (is_target == target)))

    test_targets, fit_targets = of(tested, True), of(fitted, True)
    others = _distinct(paraphrases, "paraphrase", least=0)
    known = {plain(text) for text in chosen[1]}
    wrong = next((text for text in others if plain(text) in known), None)
    if wrong is not None:
        raise DataError(f"A paraphrase is to be retained: {wrong!r:.80}.")
    fresh = _unlike(others, [*fit_targets, *of(fitted, False), *of(left, False)])
    uses = Uses(
        fit_targets,
        of(fitted, False),
        of(left, False),
        test_targets,
        of(tested, False),
        tuple(misspelt(text, f"{seed} {i}") for i, text in enumerate(test_targets)),
        tuple(fresh),
        len(targets) + len(retain) - len(texts),
        len(others) - len(fresh),
    )
    for many, what in (
        (uses.fit_targets, "targets to choose features by"),
        (uses.fit_retain, "retain texts to choose features by"),
        (uses.threshold_retain, "retain texts to set the threshold by"),
        (uses.test_targets, "targets to test on"),
        (uses.test_retain, "retain texts to test on"),
    ):
        if len(many) < LEAST:
            raise DataError(
                f"There are too few {what}: {len(many)}, of {plural(len(chosen[0]), 'target')} and"
                f" {plural(len(chosen[1]), 'retain text')}; at least {LEAST} are needed.",
                "Give more texts that are no near duplicates, or other shares.",
            )
    return uses


def groups(texts: Sequence[str]) -> np.ndarray:
    """A number for each text, int64 ``[N]``; near duplicates, and theirs, have the same."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    number: dict[str, int] = {}
    rows, columns = [], []
    for row, text in enumerate(texts):
        pieces = _pieces(text)
        rows += [row] * len(pieces)
        columns += [number.setdefault(each, len(number)) for each in pieces]
    table = sparse.csr_matrix(
        (np.ones(len(rows), np.int32), (rows, columns)), shape=(len(texts), len(number))
    )
    common = (table @ table.T).tocoo()
    sizes_N = np.asarray(table.sum(1)).ravel()
    union = sizes_N[common.row] + sizes_N[common.col] - common.data
    alike = common.data >= ALIKE * union
    edges = sparse.coo_matrix(
        (np.ones(int(alike.sum())), (common.row[alike], common.col[alike])), shape=common.shape
    )
    found: np.ndarray = connected_components(edges, directed=False)[1]
    return found.astype(np.int64)


def misspelt(text: str, seed: str) -> str:
    """``text`` with a mistake of a typist in about every fifteenth letter, at least one: two
    letters changed round, one left out, doubled, or taken for its neighbour on the keyboard."""
    draw = random.Random(f"mistakes {seed}")
    letters = list(text)
    places = [i for i, c in enumerate(letters) if c.isalpha()]
    if not places:
        return text
    count = max(1, round(len(places) / _LETTERS_PER_MISTAKE))
    for place in sorted(draw.sample(places, min(count, len(places))), reverse=True):
        letters[place : place + 2] = _mistaken(letters[place : place + 2], draw)
    made = "".join(letters)
    return made if made.strip() and made != text else text + text[-1]


def _mistaken(pair: list[str], draw: random.Random) -> list[str]:
    first, rest = pair[0], pair[1:]
    how = draw.randrange(4)
    if how == 0 and rest and rest[0].isalpha() and rest[0] != first:
        return [rest[0], first]
    if how == 1:
        return rest
    near = _NEIGHBOURS.get(first.lower())
    if how == 2 and near:
        other = draw.choice(near)
        return [other.upper() if first.isupper() else other, *rest]
    return [first, first, *rest]


def _distinct(texts: Sequence[str], what: str, least: int = 2) -> list[str]:
    """In their order, each once."""
    kept: dict[str, str] = {}
    for number, text in enumerate(texts, 1):
        if not text.strip():
            raise DataError(f"The {what} text {number} is empty.")
        kept.setdefault(plain(text), text)
    if len(kept) < least:
        raise DataError(
            f"There is one {what} text.",
            "A concept needs several of each kind: some to find it by, others to test on.",
        )
    return list(kept.values())


def _pieces(text: str) -> set[str]:
    words = plain(text)
    return {words[i : i + _PIECE] for i in range(max(1, len(words) - _PIECE + 1))}


def _unlike(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those of ``texts`` that are no near duplicates of ``others``."""
    if not texts:
        return []
    group_N = groups([*texts, *others])
    taken = set(group_N[len(texts) :].tolist())
    return [
        text for text, group in zip(texts, group_N.tolist(), strict=False) if group not in taken
    ]


def _drawn(
    group_N: np.ndarray,
    is_target: np.ndarray,
    shares: tuple[float | None, float],
    draw: random.Random,
    taken: np.ndarray,
) -> np.ndarray:
    """Texts not ``taken``, whole groups, up to these shares of the targets and of the others; None:
    the targets that come along with others.

    A group that would bring too many of either stays where it is.
    """
    targets, others = int(is_target.sum()), int((~is_target).sum())
    wanted = [targets if shares[0] is None else round(shares[0] * targets)]
    wanted.append(round(shares[1] * others))
    order = sorted(set(group_N[~taken].tolist()))
    draw.shuffle(order)
    chosen = np.zeros(len(group_N), bool)
    members = {group: np.flatnonzero(group_N == group) for group in order}
    for group in order:
        own = members[group]
        brings = [int(is_target[own].sum()), int((~is_target[own]).sum())]
        if shares[0] is None and brings[1] == 0:
            continue
        if all(n <= w for n, w in zip(brings, wanted, strict=True)):
            chosen[own] = True
            wanted = [w - n for n, w in zip(brings, wanted, strict=True)]
    return chosen
