"""Concepts over the library of ``library_rows``: figures by hand, of every kind that there is."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from monosemy.specs.concepts import FittedConcept
from monosemy.specs.rest.concepts import (
    ConceptFeature,
    ConceptResult,
    Detector,
    DetectorKind,
    EmbeddingChange,
    EmbeddingFigures,
    EmbeddingKind,
    Eraser,
    EraserKind,
    Share,
    TextCounts,
    ThresholdFigures,
)
from service.concepts.repository import keep_concept
from tests.support.library_rows import Library

CONCEPT = uuid.UUID(int=21)
NAME = "kings and queens"
SITE = "blocks.9.hook_resid_post"


def share(value: float | None, n: int = 60, wide: float = 0.06) -> Share:
    """``value`` in the middle of its interval."""
    if value is None:
        return Share(value=None, low=0, high=1, n=0)
    return Share(value=value, low=max(0, value - wide), high=min(1, value + wide), n=n)


def detector(name: str, kind: DetectorKind, area: float, found: float, alarms: float) -> Detector:
    probe = kind == "probe"
    return Detector(
        name=name,
        kind=kind,
        features=None if probe else 12,
        scale=None if probe else -8.0,
        score=None if probe else "removed",
        threshold=0.25,
        area=share(area),
        found=share(found, 30),
        false_alarms=share(alarms, 30),
        misspelt=share(found - 0.25, 30),
        paraphrases=share(None),
    )


def eraser(name: str, kind: EraserKind, linear: float, changes: float) -> Eraser:
    return Eraser(
        name=name,
        kind=kind,
        features=12 if kind == "concept" else None,
        scale=-8.0 if kind == "concept" else None,
        linear=share(linear),
        nonlinear=share(linear + 0.0625),
        change_targets=changes,
        change_retain=changes / 4,
    )


def embedding_change(
    name: str, kind: EmbeddingKind, cosine: float, probe: float
) -> EmbeddingChange:
    by_features = kind in ("concept", "scale", "random")
    return EmbeddingChange(
        name=name,
        kind=kind,
        features=12 if by_features else None,
        scale=-8.0 if by_features else None,
        equal=share(0.0 if kind == "leace" else 1.0, 34, 0.0),
        cosine=share(cosine, 26),
        similarity=share(cosine - 0.125, 26),
        named=share(None),
        probe=share(probe, 56),
        new_probe=share(probe + 0.03125, 56),
        word_probe=share(0.8125, 56),
    )


def embeddings(text: str = "") -> EmbeddingFigures:
    return EmbeddingFigures(
        embedding="mean_stream",
        width=576,
        called=text or "a queen & her king",
        others=[],
        word=text[:100] or "spoke",
        targets=30,
        flagged_targets=26,
        retain=30,
        flagged_retain=2,
        changes=[
            embedding_change("nothing", "nothing", 1.0, 0.9375),
            embedding_change("the concept", "concept", 0.5625, 0.625),
            embedding_change("random features", "random", 0.96875, 0.90625),
            embedding_change("LEACE, every text", "leace", 0.875, 0.53125),
        ],
        missing=[text or "No others are named, among which the concept could be the nearest."],
    )


def concept_result(name: str = NAME, weights: str = "w" * 16, text: str = "") -> ConceptResult:
    """A concept of features 3 and 8 of the library's SAE."""
    return ConceptResult(
        concept=FittedConcept(name=name, features=[3, 8], threshold=0.25, scale=-8.0),
        model="tiny",
        site=SITE,
        weights=weights,
        top_k=128,
        seed=0,
        texts=TextCounts(
            fit_targets=70,
            fit_retain=40,
            threshold_retain=30,
            test_targets=30,
            test_retain=30,
            misspelt=30,
            paraphrases=0,
            repeated=2,
            left_out=0,
        ),
        threshold=ThresholdFigures(
            value=0.25,
            wanted=0.05,
            rule="conformal",
            confidence=None,
            texts=30,
            least=19,
            above=1,
            bound=0.149,
            by_chance=0.125,
        ),
        shared=44,
        features=[
            ConceptFeature(
                index=3, targets=61, retain=0, maximum=7.5, test_targets=0.9, test_retain=0.1
            ),
            ConceptFeature(
                index=8, targets=9, retain=0, maximum=2.25, test_targets=0.2, test_retain=0.0
            ),
        ],
        detectors=[
            detector("the concept", "concept", 0.9375, 0.875, 0.0625),
            detector("rule share", "rule", 0.96875, 0.9, 0.03125),
            detector("by the whole error", "score", 0.875, 0.75, 0.0625),
            detector("no retain set", "no_retain", 0.625, 0.5, 0.125),
            detector("random features", "random", 0.5, 0.25, 0.0625),
            detector("linear probe", "probe", 0.984375, 0.9375, 0.03125),
            detector("the paper's threshold", "papers_threshold", 0.875, 1.0, 0.5),
        ],
        erasers=[
            eraser("nothing", "nothing", 0.9375, 0.0),
            eraser("the concept", "concept", 0.6875, 0.375),
            eraser("rule share", "rule", 0.625, 0.4375),
            eraser("mean difference", "mean_difference", 0.75, 0.5),
            eraser("LEACE", "leace", 0.5, 0.25),
        ],
        embeddings=embeddings(text),
        examples=[text or "The queen spoke to the king."],
        seconds=12.5,
    )


def add_concept(
    session: Session, library: Library, name: str = NAME, id: uuid.UUID = CONCEPT
) -> None:
    """Of the library's SAE."""
    keep_concept(session, id, library.sae, concept_result(name))
