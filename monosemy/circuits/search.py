"""The whole search: prompts, heads' outputs, codes, scores with their null, and the checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monosemy.circuits.agreement import (
    average_precision,
    between,
    jaccard,
    over_heads,
    precision_recall_f1,
    roc_auc,
    top,
)
from monosemy.circuits.causal import Ablation, ReferenceMeans, causal_check
from monosemy.circuits.codes import codes_of
from monosemy.circuits.head_outputs import HeadMap, HeadOutputs, captured, heads_of, rows_of
from monosemy.circuits.known import PUBLISHED, known_heads
from monosemy.circuits.scores import (
    PooledNull,
    Scored,
    against_null,
    causal_pairs,
    node_scores,
    score_edges,
    score_nodes,
    shuffled_labels,
)
from monosemy.data.tasks.examples import Example, TaskPrompts
from monosemy.data.tasks.sources import prompts_of
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.interp.statistics.correlation import spearman
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.specs.analyses import CircuitRun
from monosemy.specs.circuits import GeneratedPrompts
from monosemy.specs.rest.circuits import (
    CausalCheck,
    CircuitResult,
    CodesSummary,
    EdgeScore,
    EdgeSummary,
    HeadScore,
    KnownComparison,
    Stability,
)
from monosemy.versions import versions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

EDGES_KEPT = 1_000
"""Pairs of heads that a result lists."""
MOST_EDGE_CELLS = 2e10
"""Pairs times prompts times labels times seeds up to which ``auto`` scores all edges: minutes."""
_TOP = 10
"""Heads compared between seeds where none is found."""


@dataclass(frozen=True)
class _Edges:
    summary: EdgeSummary | None
    listed: list[EdgeScore]
    auc: float | None


class _Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 2)


def find_circuit(host: HostModel, spec: CircuitRun, reporter: Reporter = SILENT) -> CircuitResult:
    """The heads whose codes tell positive prompts from negative ones.

    ``ModelError`` for a host without heads; ``DataError`` for prompts that cannot be used, and for
    a known circuit that this host cannot have: both before any forward.
    """
    heads = heads_of(host)
    known = known_heads(spec.known, spec.known_heads, heads)
    prompts = prompts_of(spec.prompts, host.tokenizer)
    if {each.ids for each in prompts.positive} == {each.ids for each in prompts.negative}:
        raise DataError("The positive and the negative prompts are the same tokens.")
    for kind, words in prompts.left_out.items():
        if words:
            reporter.log(f"{len(words)} {kind} are no single tokens here: left out", words=words)
    clock = _Clock()
    with clock.part("activations"):
        outputs, means = _read(host, heads, prompts, reporter)
    examples = [*prompts.positive, *prompts.negative]
    positive = np.arange(len(examples)) < len(prompts.positive)
    labels = shuffled_labels(positive, spec.permutations, spec.codes.seed)
    kinds = spec.codes.latents + 1
    with clock.part("nodes"):
        made = [
            codes_of(outputs, spec.codes, spec.codes.seed + place, reporter)
            for place in range(spec.codes.seeds)
        ]
        tables = [codes for codes, _ in made]
        scored, q = score_nodes(tables, labels, kinds)
    found = q <= spec.false_discovery
    member = _members(heads, known)
    with clock.part("edges"):
        edges = _edges(spec, heads, tables, labels, found, member, reporter)
    with clock.part("causal"):
        causal, no_causal = _causal(host, heads, spec, prompts, means, scored, reporter)
    distinct = np.mean([_distinct(codes, kinds) for codes in tables], axis=0)
    return CircuitResult(
        model=host.name,
        task=spec.prompts.task,
        positive=len(prompts.positive),
        negative=len(prompts.negative),
        layers=list(heads.layers),
        heads_per_layer=heads.per_layer,
        found=int(found.sum()),
        false_discovery=spec.false_discovery,
        permutations=spec.permutations,
        seeds=spec.codes.seeds,
        highest_z=float(scored.z.max()),
        edges=edges.summary,
        clean_logit_difference=None if causal is None else causal.clean,
        heads=_heads(heads, scored, q, found, distinct, member),
        edge_list=edges.listed,
        codes=CodesSummary(
            latents=spec.codes.latents,
            trained_on=min(spec.codes.examples, len(examples)),
            fvu=[sae.fvu for _, sae in made],
            silent=float(np.mean([(codes == kinds - 1).mean() for codes in tables])),
            codes_per_head=float(distinct.mean()),
        ),
        stability=_stability(tables, labels, kinds, found),
        known=_comparison(spec, scored, found, member, edges.auc),
        causal=causal,
        no_causal=no_causal,
        left_out={kind: list(words) for kind, words in prompts.left_out.items()},
        examples={"positive": examples[0].text, "negative": prompts.negative[0].text},
        seconds=clock.seconds,
        versions=versions("torch", "transformers", "numpy"),
    )


def _read(
    host: HostModel, heads: HeadMap, prompts: TaskPrompts, reporter: Reporter
) -> tuple[HeadOutputs, ReferenceMeans]:
    examples = [*prompts.positive, *prompts.negative]
    rows = rows_of(host, examples)
    outputs = HeadOutputs(host, heads, len(rows))
    means = ReferenceMeans(heads, 0 if host.bos_id is None else 1)
    templates = [each.template for each in examples]
    negative = [place >= len(prompts.positive) for place in range(len(examples))]
    for batch in captured(host, heads, rows, reporter):
        outputs.add(batch)
        means.add(batch, templates, negative)
    if not outputs.finite():
        raise DataError(
            "The heads' outputs are not finite numbers.", "Set model.dtype=float32 or bfloat16."
        )
    return outputs, means


def _edges(
    spec: CircuitRun,
    heads: HeadMap,
    tables: list[Ints],
    labels: Booleans,
    found: Booleans,
    member: Booleans | None,
    reporter: Reporter,
) -> _Edges:
    if spec.edges == "none":
        return _Edges(None, [], None)
    layers = [layer for layer, _ in heads.names()]
    pairs = causal_pairs(layers, range(heads.count))
    work = len(pairs) * labels.size * len(tables)
    every = spec.edges == "all" or (spec.edges == "auto" and work <= MOST_EDGE_CELLS)
    if not every:
        pairs = causal_pairs(layers, np.flatnonzero(found).tolist())
        reporter.log(
            f"edges: among the {plural(int(found.sum()), 'head')} that pass,"
            f" {plural(len(pairs), 'pair')}"
        )
    summary = EdgeSummary(
        among="all" if every else "significant",
        heads=heads.count if every else int(found.sum()),
        pairs=len(pairs),
        found=0,
        kept=0,
    )
    if not len(pairs):
        return _Edges(summary, [], None)
    scored, q = score_edges(tables, labels, spec.codes.latents + 1, pairs, reporter)
    passing = q <= spec.false_discovery
    names = heads.names()
    listed = [
        EdgeScore(
            source=names[pairs[place, 0]],
            target=names[pairs[place, 1]],
            score=float(scored.score[place]),
            z=float(scored.z[place]),
            p=float(scored.p[place]),
            q=float(q[place]),
            found=bool(passing[place]),
        )
        for place in top(scored.z, EDGES_KEPT)
    ]
    auc = None
    if every and member is not None:
        both: Booleans = np.all(member[pairs], axis=1)
        value = roc_auc(scored.z, both)
        auc = None if np.isnan(value) else value
    update = {"found": int(passing.sum()), "kept": len(listed)}
    return _Edges(summary.model_copy(update=update), listed, auc)


def _causal(
    host: HostModel,
    heads: HeadMap,
    spec: CircuitRun,
    prompts: TaskPrompts,
    means: ReferenceMeans,
    scored: Scored,
    reporter: Reporter,
) -> tuple[CausalCheck | None, str | None]:
    """(the check, or why there is none)"""
    if spec.causal is None:
        return None, "it was not asked for"
    if host.abilities.no_logits is not None:
        return None, f"the host model predicts no tokens: {host.abilities.no_logits}"
    examples, held_out = _causal_prompts(host, spec, prompts)
    if len(examples) < 2:
        return None, "fewer than two positive prompts have right and wrong answers"
    ablation = Ablation(host, heads, means, examples)
    order = np.lexsort((-scored.score, -scored.z)).tolist()
    return causal_check(ablation, order, spec.causal, spec.codes.seed, held_out, reporter), None


def _causal_prompts(
    host: HostModel, spec: CircuitRun, prompts: TaskPrompts
) -> tuple[list[Example], bool]:
    """(prompts, whether they took no part in finding the circuit): generated ones are drawn anew,
    of given ones there are no others."""
    assert spec.causal is not None
    if isinstance(spec.prompts, GeneratedPrompts):
        source = spec.prompts.model_copy(
            update={"seed": spec.prompts.seed + 1, "count": 2 * spec.causal.prompts}
        )
        seen = {each.text for each in prompts.positive}
        drawn = prompts_of(source, host.tokenizer).positive
        fresh = [each for each in drawn if each.text not in seen]
        return fresh[: spec.causal.prompts], True
    asked = [each for each in prompts.positive if each.right and each.wrong]
    rng = np.random.default_rng(spec.codes.seed % 2**63)
    chosen = sorted(rng.permutation(len(asked))[: spec.causal.prompts].tolist())
    return [asked[place] for place in chosen], False


def _members(heads: HeadMap, known: list[tuple[int, int]] | None) -> Booleans | None:
    return None if known is None else np.array([name in known for name in heads.names()])


def _distinct(codes: Ints, kinds: int) -> Floats:
    """``[heads]``: different codes of each."""
    keys = codes + kinds * np.arange(codes.shape[1])
    counts = np.bincount(keys.ravel(), minlength=codes.shape[1] * kinds)
    different: Floats = (counts > 0).reshape(-1, kinds).sum(1).astype(float)
    return different


def _heads(
    heads: HeadMap,
    scored: Scored,
    q: Floats,
    found: Booleans,
    distinct: Floats,
    member: Booleans | None,
) -> list[HeadScore]:
    return [
        HeadScore(
            layer=layer,
            head=head,
            score=float(scored.score[place]),
            null_mean=float(scored.mean[place]),
            null_sd=float(scored.sd[place]),
            z=float(scored.z[place]),
            p=float(scored.p[place]),
            q=float(q[place]),
            found=bool(found[place]),
            codes=float(distinct[place]),
            known=None if member is None else bool(member[place]),
        )
        for place, (layer, head) in enumerate(heads.names())
    ]


def _stability(tables: list[Ints], labels: Booleans, kinds: int, found: Booleans) -> Stability:
    """Between the scores that each seed alone gives."""
    z = [
        against_null(node_scores(codes, labels, kinds).astype(float), PooledNull()).z
        for codes in tables
    ]
    heads = len(found)
    count = min(int(found.sum()) or _TOP, heads)
    best = [set(top(each, count)) for each in z]
    shared = count / heads * count
    return Stability(
        seeds=len(tables),
        rank_correlation=between(lambda a, b: spearman(z[a], z[b]) or 0.0, len(z)),
        top=count,
        jaccard=between(lambda a, b: jaccard(best[a], best[b]), len(z)),
        jaccard_by_chance=shared / (2 * count - shared),
    )


def _comparison(
    spec: CircuitRun,
    scored: Scored,
    found: Booleans,
    member: Booleans | None,
    edge_auc: float | None,
) -> KnownComparison | None:
    if member is None:
        return None
    published = None if spec.known is None or spec.known_heads else PUBLISHED[spec.known]
    precision, recall, f1 = precision_recall_f1(found, member)
    thresholds = np.unique(scored.z)
    best = max(precision_recall_f1(scored.z >= least, member)[2] for least in thresholds)
    return KnownComparison(
        name="given" if published is None or spec.known is None else spec.known,
        source=None if published is None else published.source,
        members=int(member.sum()),
        heads=len(member),
        auc=over_heads(roc_auc, scored.z, member),
        auc_raw=over_heads(roc_auc, scored.score, member),
        average_precision=over_heads(average_precision, scored.z, member),
        precision=precision,
        recall=recall,
        f1=f1,
        best_f1=best,
        edge_auc=edge_auc,
    )
