"""Examples of an index as explainers and scorers get them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monosemy.data.splits import TEST, TRAIN, VALIDATION
from monosemy.data.store import TokenStore
from monosemy.errors import DataError
from monosemy.index.examples import Example
from monosemy.index.hard_negatives import neighbour_negatives, same_token_negatives
from monosemy.index.ordering import distinct
from monosemy.index.reader import IndexReader
from monosemy.index.sampling import Sampler
from monosemy.index.token_positions import TokenPositions
from monosemy.interp.explainers.base import Explainer, ExplainingExamples
from monosemy.interp.mis_marking import MisMarker
from monosemy.interp.near_negatives import NearNegatives
from monosemy.interp.scorers.base import ScoringExamples
from monosemy.interp.select import select_features
from monosemy.interp.shown import ShownExample, show_example
from monosemy.interp.tiers import (
    EMBEDDING_NEAR,
    MIS_MARKED,
    NEAREST_EXPLANATIONS,
    NEIGHBOUR,
    RANDOM,
    SAME_TOKEN,
)
from monosemy.interp.window_embeddings import embed_windows
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ExplanationSpec, FeatureSelection, ScoringSpec

if TYPE_CHECKING:
    from monosemy.interp.tools import Tools

MIN_PER_SPLIT = 10
"""Firings in each of the two splits without which a feature is not sampled."""

_Negatives = Callable[[int, int, int, Sequence[Example]], list[Example]]
"""(feature, how many, seed, the examples they must be like but not repeat) to silent windows."""

DECILES = 10
"""Strata of activation of the examples that score a feature."""

PROMPTS, PROMPT_TOKENS = 16, 16
"""Beginnings of texts after which the host model is made to write on, and their length."""

_COUNTED = 200_000
"""Firings looked at for the density of contexts."""

_SPARE = 4
"""Candidates looked at per feature wanted."""


class FeatureTexts:
    """Explanations see documents of split ``TRAIN``, choices among them those of ``VALIDATION``,
    scores those of ``TEST``."""

    def __init__(self, reader: IndexReader, store: TokenStore) -> None:
        self.sampler = Sampler(reader, store)
        self.reader = reader
        self.store = store
        self._token_bytes = store.token_bytes()
        self._negatives: dict[str, _Negatives] = {
            RANDOM: self._random,
            SAME_TOKEN: self._same_token,
            NEIGHBOUR: self._neighbour,
        }

    async def prepare(
        self,
        tiers: Sequence[str],
        tools: Tools,
        reporter: Reporter = SILENT,
        folder: Path | None = None,
    ) -> None:
        """Makes ready what ``to_score`` needs for ``tiers``; call it once before.

        ``embedding_near`` needs embeddings of all windows of the scoring split.  They are kept in
        ``folder`` (beside the token store's files where None) and made only once for a text and an
        embedder.  Raises ``DataError`` without an embedder.
        """
        if EMBEDDING_NEAR in tiers and EMBEDDING_NEAR not in self._negatives:
            embed = tools.need_embed()
            folder = folder or self.store.folder / "window_embeddings"
            rows = self.reader.rows_of_split(self.store, TEST)
            embeddings = await embed_windows(self.store, rows, embed, folder, reporter)
            self._negatives[EMBEDDING_NEAR] = NearNegatives(self.sampler, embeddings)

    def know_nearest(self, nearest: Mapping[int, Sequence[tuple[int, float]]]) -> None:
        """Says which features have the explanations nearest to each one's, with their cosines: what
        the tier ``nearest_explanations`` takes its texts from."""

        def negatives(
            feature: int, count: int, seed: int, positives: Sequence[Example]
        ) -> list[Example]:
            named = [
                (other, f"neighbour {other} explanation {cosine:.2f}")
                for other, cosine in nearest.get(feature, ())
            ]
            return neighbour_negatives(self.sampler, feature, TEST, count, seed, positives, named)

        self._negatives[NEAREST_EXPLANATIONS] = negatives

    def require(self, feature: int) -> None:
        """``DataError`` unless the SAE has this feature."""
        if not 0 <= feature < self.reader.n_features:
            raise DataError(
                f"There is no feature {feature}: the SAE has 0 to {self.reader.n_features - 1}."
            )

    def to_explain(
        self, feature: int, spec: ExplanationSpec, explainer: Explainer
    ) -> ExplainingExamples:
        """Activating examples of the explanation split, and what else ``explainer`` wants."""
        seed = spec.features.seed
        examples = self.sampler.examples(feature, TRAIN, spec.examples, seed)
        contrasts: list[Example] = []
        validation = None
        prompts = self._prompts if explainer.wants_prompts else ()
        if explainer.wants_contrasts:
            contrasts = self._contrasts(feature, spec.contrasts, seed, examples)
        if explainer.validates:
            validation = self._validation(feature, spec.validation_examples, seed)
        shown, against = (tuple(self._show(feature, each)) for each in (examples, contrasts))
        return ExplainingExamples(shown, against, validation, prompts)

    def _contrasts(
        self, feature: int, count: int, seed: int, examples: Sequence[Example]
    ) -> list[Example]:
        """Silent texts with a token on which it often fires, of the explanation split; random ones
        where there are too few."""
        tokens = self._token_positions
        near = same_token_negatives(self.sampler, tokens, feature, TRAIN, count, seed, examples)
        missing = count - len(near)
        return near + self.sampler.negatives(feature, TRAIN, missing, seed, [*examples, *near])

    def _validation(self, feature: int, count: int, seed: int) -> ScoringExamples:
        examples = self.sampler.examples(feature, VALIDATION, count, seed)
        silent = self.sampler.negatives(feature, VALIDATION, count, seed, examples)
        shown, others = (tuple(self._show(feature, each)) for each in (examples, silent))
        return ScoringExamples(feature, shown, {RANDOM: others})

    def to_score(
        self, feature: int, spec: ScoringSpec, tiers: Sequence[str] = (RANDOM,)
    ) -> ScoringExamples:
        """Activating examples and, for each of ``tiers``, negatives of like shape.

        With the tier ``mis_marked`` the activating examples are the partners of those.
        """
        if MIS_MARKED in tiers:
            return self._pairs(feature, spec, tiers)
        positives = self.sampler.examples(
            feature, TEST, spec.positives, spec.seed, n_strata=DECILES
        )
        # A negative of one kind is not to come again as one of another.
        used = list(positives)
        negatives: dict[str, tuple[ShownExample, ...]] = {}
        for tier in tiers:
            if tier not in self._negatives:
                if tier == EMBEDDING_NEAR:
                    raise DataError(
                        "Negatives near in meaning need embeddings of the text.",
                        "Call prepare with the sentence embedder first.",
                    )
                if tier == NEAREST_EXPLANATIONS:
                    raise DataError(
                        "The nearest explanations of each feature are not known.",
                        "Call know_nearest first.",
                    )
                raise DataError(f"There are no negatives of the kind '{tier}'.")
            drawn = self._negatives[tier](feature, spec.negatives, spec.seed, used)
            used += drawn
            negatives[tier] = tuple(self._show(feature, drawn))
        shown = tuple(self._show(feature, positives))
        return ScoringExamples(feature, shown, negatives, self._context_density(feature))

    def _context_density(self, feature: int) -> float:
        """Of contexts as long as the shown ones, the share in which the feature fires: counted over
        the whole text, for features with very many firings over a part of it."""
        positions = self.reader.firings(feature).positions
        length = 2 * self.reader.window + 1
        covered = self.reader.n_tokens
        if len(positions) > _COUNTED:
            first = (len(positions) - _COUNTED) // 2
            positions = positions[first : first + _COUNTED]
            covered = int(positions[-1]) - int(positions[0]) + 1
        contexts = np.count_nonzero(distinct(np.asarray(positions) // length))
        return min(1.0, contexts * length / max(covered, 1))

    def _pairs(self, feature: int, spec: ScoringSpec, tiers: Sequence[str]) -> ScoringExamples:
        if set(tiers) != {MIS_MARKED}:
            raise DataError("Wrong marks are not scored together with other negatives.")
        marker = MisMarker(self.sampler, self._show)
        pairs = marker.pairs(feature, min(spec.positives, spec.negatives), spec.seed, DECILES)
        right, wrong = (tuple(side) for side in zip(*pairs, strict=True)) if pairs else ((), ())
        return ScoringExamples(feature, right, {MIS_MARKED: wrong})

    def _random(
        self, feature: int, count: int, seed: int, positives: Sequence[Example]
    ) -> list[Example]:
        return self.sampler.negatives(feature, TEST, count, seed, positives)

    def _same_token(
        self, feature: int, count: int, seed: int, positives: Sequence[Example]
    ) -> list[Example]:
        tokens = self._token_positions
        return same_token_negatives(self.sampler, tokens, feature, TEST, count, seed, positives)

    def _neighbour(
        self, feature: int, count: int, seed: int, positives: Sequence[Example]
    ) -> list[Example]:
        return neighbour_negatives(self.sampler, feature, TEST, count, seed, positives)

    @cached_property
    def _prompts(self) -> tuple[tuple[int, ...], ...]:
        """How some rows of the explanation split begin, as token ids; special tokens stay."""
        rows = self.reader.rows_of_split(self.store, TRAIN)
        chosen = np.random.default_rng(0).permutation(rows)[:PROMPTS]
        starts = np.asarray(self.store.row_start)
        ends = np.minimum(starts[chosen] + PROMPT_TOKENS, starts[chosen + 1])
        pairs = zip(starts[chosen].tolist(), ends.tolist(), strict=True)
        return tuple(tuple(self.store.tokens[a:b].tolist()) for a, b in pairs)

    @cached_property
    def _token_positions(self) -> TokenPositions:
        return TokenPositions.of(self.store)

    def _show(self, feature: int, examples: Sequence[Example]) -> list[ShownExample]:
        largest = float(self.reader.max_activation[feature])
        return [show_example(each, self.store, self._token_bytes, largest) for each in examples]


def choose_features(texts: FeatureTexts, selection: FeatureSelection) -> list[int]:
    """``select_features``, and of a sample only those that fire in both splits.

    A feature needs ``MIN_PER_SPLIT`` firings in the documents that explain it and as many in those
    that score it.  Raises ``DataError`` when no feature has them.
    """
    if selection.indices is not None:
        return select_features(texts.reader, selection)
    generous = selection.model_copy(update={"count": _SPARE * selection.count})
    chosen: list[int] = []
    fitting = select_features(texts.reader, generous)
    for feature in np.random.default_rng(selection.seed).permutation(fitting).tolist():
        if len(chosen) == selection.count:
            break
        firings = texts.sampler.text_of(feature)
        if all(np.count_nonzero(firings.splits == s) >= MIN_PER_SPLIT for s in (TRAIN, TEST)):
            chosen.append(feature)
    if not chosen:
        raise DataError(
            "No sampled feature fires often enough both in the documents that explain it and in "
            "those that score it.",
            "Index more documents, or name features with explanation.features.indices.",
        )
    return sorted(chosen)
