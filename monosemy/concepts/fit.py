"""A concept found in texts, tested on texts that chose nothing, beside other ways.  Needs torch.

Retain texts that choose features have none of the concept's among their strongest, so that their
scores are lower than those of fresh ones: the threshold is set by retain texts of its own.
"""

from __future__ import annotations

import time
from dataclasses import fields

from monosemy.concepts.features import Choosing, listed
from monosemy.concepts.readings import Readings, read_texts, token_rows
from monosemy.concepts.text_vectors import TextVectors
from monosemy.concepts.texts import Uses, cut
from monosemy.concepts.threshold import find_threshold
from monosemy.concepts.ways import ReadTexts, Ways, by_other_rule
from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ConceptRun
from monosemy.specs.concepts import FittedConcept
from monosemy.specs.rest.concepts import ConceptResult, TextCounts

_EXAMPLES = 3


def fit_concept(
    hosted: HostedSAE,
    spec: ConceptRun,
    prepend_bos: bool,
    weights: str,
    reporter: Reporter = SILENT,
) -> ConceptResult:
    """``prepend_bos``: whether the SAE was trained on texts that begin with BOS; ``weights``: the
    digest of its weights.

    ``DataError`` for an SAE that writes elsewhere than it reads or at several places, for texts
    that cannot be cut into uses (``texts.cut``) or read (``readings.token_rows``), where no feature
    is left, and where the threshold needs more texts.
    """
    begun = time.monotonic()
    if hosted.hooks.transcodes or len(hosted.hooks.reads) > 1:
        raise DataError(
            "The SAE writes elsewhere than it reads, or at several places.",
            "A concept takes an SAE that reads and writes one site.",
        )
    uses = cut(
        spec.targets,
        spec.retain,
        spec.paraphrases,
        spec.test_share,
        spec.threshold_share,
        spec.seed,
    )
    # Before anything is read: whether there are enough texts for a threshold at all, and whether
    # names can be read.
    find_threshold([0.0] * len(uses.threshold_retain), spec.false_alarms, spec.confidence)
    names = [spec.called or spec.name, *spec.others] if spec.embeddings else []
    token_rows(hosted.host, names, prepend_bos)
    read = _read(hosted, uses, prepend_bos, reporter)
    choosing = Choosing(hosted.sae, read.fit_targets, read.fit_retain, spec.top_k)
    chosen = choosing.choose(spec.rule, spec.seed)
    test = Ways(hosted.sae, spec, read, chosen, by_other_rule(choosing, spec))
    figures = find_threshold(
        test.own(read.threshold_retain),
        spec.false_alarms,
        spec.confidence,
        len(read.test_retain),
    )
    with reporter.stage("tests", 2, "table") as stage:
        detectors = test.detectors()
        stage.advance()
        erasers = test.erasers()
        stage.advance()
    embeddings = None
    if spec.embeddings:
        vectors = TextVectors(hosted, prepend_bos)
        embeddings = test.embeddings(vectors, hosted, uses, figures.value, reporter)
    return ConceptResult(
        concept=FittedConcept(
            name=spec.name,
            features=list(chosen.own),
            threshold=figures.value,
            scale=spec.scale,
            keep_error=spec.keep_error,
            score=spec.score,
        ),
        model=hosted.host.name,
        site=hosted.site,
        weights=weights,
        top_k=spec.top_k,
        rule=spec.rule,
        seed=spec.seed,
        texts=_counts(uses),
        threshold=figures,
        shared=len(chosen.all) - len(chosen.own),
        features=listed(chosen, read.test_targets, read.test_retain, hosted.sae.d_sae),
        detectors=detectors,
        erasers=erasers,
        embeddings=embeddings,
        examples=[text[:500] for text in uses.fit_targets[:_EXAMPLES]],
        seconds=round(time.monotonic() - begun, 2),
    )


def _read(hosted: HostedSAE, uses: Uses, prepend_bos: bool, reporter: Reporter) -> ReadTexts:
    """All in one go, so that a text that cannot be read is told before any forward."""
    names = [each.name for each in fields(ReadTexts)]
    texts = {name: getattr(uses, name) for name in names}
    everything = [text for name in names for text in texts[name]]
    with reporter.stage("texts", len(everything), "text") as stage:
        whole = read_texts(hosted, everything, prepend_bos, lambda n: stage.advance(n))
    parts: dict[str, Readings | None] = {}
    first = 0
    for name in names:
        count = len(texts[name])
        parts[name] = whole.part(first, first + count) if count else None
        first += count
    return ReadTexts(**parts)  # type: ignore[arg-type]


def _counts(uses: Uses) -> TextCounts:
    return TextCounts(
        **{each.name: len(getattr(uses, each.name)) for each in fields(ReadTexts)},
        repeated=uses.repeated,
        left_out=uses.left_out,
    )
