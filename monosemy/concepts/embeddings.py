"""What deactivating a concept does to one vector for a whole text.  Needs torch.

How far flagged texts move, whether they still come nearest to what the concept is called, whether
linear probes still find it, and whether a probe of something else finds what it found: of a word in
the text, which is the word content task of Conneau et al. 2018 (arXiv:1805.01070, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from monosemy.concepts.figures import balanced_accuracy, mean_cosine, share
from monosemy.concepts.probes import linear_probe
from monosemy.concepts.text_vectors import TextVectors, Way
from monosemy.concepts.texts import LEAST, Uses, plain
from monosemy.specs import ConceptRun
from monosemy.specs.rest.concepts import EmbeddingChange, EmbeddingFigures, Share

Tells = Callable[[Tensor], Tensor]
"""A probe as a classifier: ``[n, E]`` to bool ``[n]``."""

_NOTHING = Share(value=None, low=0, high=1, n=0)


def embedding_test(
    vectors: TextVectors, spec: ConceptRun, uses: Uses, flagged: Mapping[str, Sequence[bool]]
) -> EmbeddingTest:
    """Of the texts of a concept run; ``flagged``: which of each use are."""

    def labelled(*names: str) -> Labelled:
        sets = [(getattr(uses, each), each.endswith("targets"), flagged[each]) for each in names]
        return Labelled.of(sets)

    fit = labelled("fit_targets", "fit_retain", "threshold_retain")
    test = labelled("test_targets", "test_retain")
    return EmbeddingTest(vectors, fit, test, spec.called or spec.name, spec.others, spec.word)


@dataclass(frozen=True)
class Labelled:
    """Texts of one use: with the concept and without, and which of them are flagged."""

    texts: tuple[str, ...]
    on_N: Tensor
    """Bool: which have the concept."""
    flagged_N: Tensor
    """Bool."""

    @classmethod
    def of(cls, parts: Sequence[tuple[Sequence[str], bool, Sequence[bool]]]) -> Labelled:
        """Of several sets of texts: each with whether it has the concept, and which are flagged."""
        return cls(
            tuple(text for texts, _, _ in parts for text in texts),
            torch.tensor([on for texts, on, _ in parts for _ in texts], dtype=torch.bool),
            torch.tensor([each for *_, flagged in parts for each in flagged], dtype=torch.bool),
        )

    @property
    def words(self) -> list[set[str]]:
        """Of each text."""
        return [set(plain(text).split()) for text in self.texts]

    def having(self, word: str) -> Tensor:
        """Bool ``[n]``: which texts have the word, or these words in a row."""
        wanted = f" {plain(word)} "
        return torch.tensor([wanted in f" {plain(text)} " for text in self.texts], dtype=torch.bool)


def balanced_word(fit: Labelled, test: Labelled, unlike: str) -> str | None:
    """The word, none of ``unlike``, that splits texts most evenly: of the targets and of the others
    of both uses, the fewest with it or without it are as many as can be.  None where there are
    always fewer than ``LEAST``."""
    sizes = np.array([int((use.on_N == on).sum()) for use in (fit, test) for on in (True, False)])
    counts: dict[str, np.ndarray] = {}
    for number, use in enumerate((fit, test)):
        for words, on in zip(use.words, use.on_N.tolist(), strict=True):
            for word in words:
                counts.setdefault(word, np.zeros(4, int))[2 * number + (not on)] += 1
    taken = set(plain(unlike).split())
    ranked = [
        (-int(np.minimum(with_4, sizes - with_4).min()), word)
        for word, with_4 in counts.items()
        if word not in taken
    ]
    least, chosen = min(ranked, default=(0, ""))
    return chosen if -least >= LEAST else None


class EmbeddingTest:
    """Ways to take a concept out, on the same texts: ``fit`` for probes, ``test`` for figures."""

    def __init__(
        self,
        vectors: TextVectors,
        fit: Labelled,
        test: Labelled,
        called: str,
        others: Sequence[str],
        word: str | None,
    ) -> None:
        """``word``: that the probe of something else goes by; None chooses one."""
        self._vectors, self._fit, self._test = vectors, fit, test
        self._called, self._others = called, list(others)
        self._word = balanced_word(fit, test, called) if word is None else word
        self._hit_N = test.on_N & test.flagged_N
        self._kept_N = self._hit_N | ~test.on_N
        """Texts that probes are tested on."""

    # ------------------------------------------------------------------ as they were
    @cached_property
    def _before(self) -> tuple[Tensor, Tensor]:
        return self._vectors.of(self._fit.texts), self._vectors.of(self._test.texts)

    @cached_property
    def _names(self) -> Tensor:
        """Unit vectors ``[1 + others, E]``."""
        return _units(self._vectors.of([self._called, *self._others]))

    @cached_property
    def _probe(self) -> Tells | None:
        return _told(self._before[0], self._fit.on_N)

    @cached_property
    def _word_probe(self) -> Tells | None:
        if self._word is None or len(set(self._labels().tolist())) < 2:
            return None
        return _told(self._before[0], self._fit.having(self._word))

    # ------------------------------------------------------------------ figures
    def forwards(self, ways: Sequence[Way]) -> int:
        """Texts that ``figures`` reads, each time counted."""
        names = 1 + len(self._others)
        if not self._hit_N.any():
            return names
        fit, test = len(self._fit.texts), len(self._test.texts)
        changed = [self._changed(way) for way in ways if way.change is not None]
        return names + fit + test + sum(int(each.sum()) + test for each in changed)

    def figures(
        self, ways: Sequence[Way], advance: Callable[[int], None] = lambda _: None
    ) -> EmbeddingFigures:
        """``advance`` is told of texts read."""
        self._vectors.advance = advance
        test, word = self._test, self._word if self._word_probe is not None else None
        changes = [self._change(way) for way in ways] if self._hit_N.any() else []
        return EmbeddingFigures(
            embedding=self._vectors.kind,
            width=self._names.shape[1],
            called=self._called,
            others=self._others,
            word=word,
            targets=int(test.on_N.sum()),
            flagged_targets=int(self._hit_N.sum()),
            retain=int((~test.on_N).sum()),
            flagged_retain=int((test.flagged_N & ~test.on_N).sum()),
            changes=changes,
            missing=self._missing(),
        )

    def _missing(self) -> list[str]:
        notes = []
        if not self._hit_N.any():
            notes.append("No test target is flagged, so that nothing is taken out of any.")
        if not self._others:
            notes.append("No others are named, among which the concept could be the nearest.")
        if int((self._fit.on_N & self._fit.flagged_N).sum()) < LEAST:
            notes.append(
                "No probe is fitted anew: fewer than two of the targets that chose features are"
                " flagged."
            )
        if self._word is None:
            notes.append(
                "There is no probe of a word: none is in some of the targets and of the retain"
                " texts and missing in others, of those fitted to and of those tested on."
            )
        elif self._word_probe is None:
            notes.append(
                f"There is no probe of the word '{self._word}': of the texts that it is fitted to"
                " or tested on all have it, or none, which is one class alone."
            )
        return notes

    def _labels(self) -> Tensor:
        """Of the word, for the texts that probes are tested on."""
        return self._test.having(self._word or "")[self._kept_N]

    def _changed(self, way: Way) -> Tensor:
        """Bool ``[n]``: which fitted texts are, all of them by what tells none."""
        return self._fit.flagged_N | way.every

    def _after(self, way: Way) -> tuple[Tensor, Tensor]:
        """(of fitted texts, of test texts)"""
        fit_NE, test_NE = self._before
        if way.change is None:
            return fit_NE, test_NE
        changed = self._changed(way)
        # Of fitted texts those alone that are changed; test texts all, to see that others are not.
        if changed.any():
            texts = [text for text, on in zip(self._fit.texts, changed.tolist(), strict=True) if on]
            fit_NE = fit_NE.clone()
            fit_NE[changed] = self._vectors.of(texts, way.change, [True] * len(texts))
        flagged = (self._test.flagged_N | way.every).tolist()
        return fit_NE, self._vectors.of(self._test.texts, way.change, flagged)

    def _change(self, way: Way) -> EmbeddingChange:
        fit_NE, test_NE = self._after(way)
        before_NE, hit_N = self._before[1], self._hit_N
        equal_N = (test_NE == before_NE).all(1)[~self._test.flagged_N]
        target_PE = _units(test_NE[hit_N])
        near_PC = target_PE @ self._names.T
        named = _NOTHING
        if self._others:
            named = share((near_PC[:, 0] > near_PC[:, 1:].amax(1)).tolist())
        chosen = ~self._fit.on_N | self._fit.flagged_N
        on_N = self._fit.on_N[chosen]
        again = _told(fit_NE[chosen], on_N)
        on_M = self._test.on_N[self._kept_N]
        kept_ME = test_NE[self._kept_N]
        return EmbeddingChange(
            name=way.name,
            kind=way.kind,
            features=way.features,
            scale=way.scale,
            equal=share(equal_N.tolist()),
            cosine=mean_cosine((target_PE * _units(before_NE[hit_N])).sum(1).tolist()),
            similarity=mean_cosine(near_PC[:, 0].tolist()),
            named=named,
            probe=_accuracy(self._probe, kept_ME, on_M),
            new_probe=_accuracy(again, kept_ME, on_M),
            word_probe=_accuracy(self._word_probe, kept_ME, self._labels()),
        )


def _told(x_NE: Tensor, on_N: Tensor) -> Tells | None:
    """A linear probe as a classifier, bool ``[m]`` of ``[m, E]``: halfway between the mean scores
    of both classes.  None where one of them has fewer than ``LEAST`` texts."""
    if min(int(on_N.sum()), int((~on_N).sum())) < LEAST:
        return None
    probe = linear_probe(x_NE, on_N)
    scores_N = probe(x_NE)
    middle = float(scores_N[on_N].mean() + scores_N[~on_N].mean()) / 2
    return lambda x_ME: probe(x_ME) > middle


def _accuracy(tells: Tells | None, x_ME: Tensor, on_M: Tensor) -> Share:
    """Balanced."""
    if tells is None:
        return _NOTHING
    said_M = tells(x_ME)
    return balanced_accuracy(said_M[on_M].tolist(), (~said_M[~on_M]).tolist())


def _units(x_NE: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x_NE, dim=1)
