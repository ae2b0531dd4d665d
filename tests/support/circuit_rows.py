"""A stored circuit, scored by the library's own functions over made-up codes."""

from __future__ import annotations

import uuid

import numpy as np
from sqlalchemy.orm import Session

from monosemy.circuits.agreement import average_precision, over_heads, roc_auc
from monosemy.circuits.scores import causal_pairs, score_edges, score_nodes, shuffled_labels
from monosemy.specs.rest.circuits import (
    CausalCheck,
    CausalPoint,
    CircuitResult,
    CodesSummary,
    EdgeScore,
    EdgeSummary,
    HeadScore,
    KnownComparison,
    Stability,
    WithInterval,
)
from service.circuits.repository import store_circuit

CIRCUIT, BARE = uuid.UUID(int=17), uuid.UUID(int=18)
"""One with everything, and one without edges, known circuit or causal check."""
LAYERS, HEADS, PROMPTS = 12, 4, 60
_KINDS = 40


def made_up(bare: bool = False) -> CircuitResult:
    """Twelve layers of four heads; every ninth one has codes of its own in positive prompts."""
    rng = np.random.default_rng(0)
    positive = np.arange(2 * PROMPTS) < PROMPTS
    names = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    member = np.arange(len(names)) % 9 == 4
    codes = rng.integers(8, size=(2 * PROMPTS, len(names)))
    codes[:PROMPTS, member] += rng.integers(1, 4, size=(PROMPTS, int(member.sum()))) * 8
    labels = shuffled_labels(positive, 40, 0)
    nodes, q = score_nodes([codes], labels, _KINDS)
    found = q <= 0.05
    pairs = causal_pairs([layer for layer, _ in names], range(len(names)))
    edges, edge_q = score_edges([codes], labels, _KINDS, pairs)
    best = np.argsort(-edges.z, kind="stable")[:200]
    listed = [
        EdgeScore(
            source=names[pairs[place, 0]],
            target=names[pairs[place, 1]],
            score=float(edges.score[place]),
            z=float(edges.z[place]),
            p=float(edges.p[place]),
            q=float(edge_q[place]),
            found=bool(edge_q[place] <= 0.05),
        )
        for place in best
    ]
    known = KnownComparison(
        name="given",
        source=None,
        members=int(member.sum()),
        heads=len(names),
        auc=over_heads(roc_auc, nodes.z, member),
        auc_raw=over_heads(roc_auc, nodes.score, member),
        average_precision=over_heads(average_precision, nodes.z, member),
        precision=1.0,
        recall=1.0,
        f1=1.0,
        best_f1=1.0,
        edge_auc=0.97,
    )
    summary = EdgeSummary(
        among="all",
        heads=len(names),
        pairs=len(pairs),
        found=int((edge_q <= 0.05).sum()),
        kept=len(listed),
    )
    causal = _causal()
    return CircuitResult(
        model="host",
        task="indirect-objects",
        positive=PROMPTS,
        negative=PROMPTS,
        layers=list(range(LAYERS)),
        heads_per_layer=HEADS,
        found=int(found.sum()),
        false_discovery=0.05,
        permutations=40,
        seeds=1 if bare else 3,
        highest_z=float(nodes.z.max()),
        edges=None if bare else summary,
        clean_logit_difference=None if bare else causal.clean,
        heads=[
            HeadScore(
                layer=layer,
                head=head,
                score=float(nodes.score[place]),
                null_mean=float(nodes.mean[place]),
                null_sd=float(nodes.sd[place]),
                z=float(nodes.z[place]),
                p=float(nodes.p[place]),
                q=float(q[place]),
                found=bool(found[place]),
                codes=float(len(set(codes[:, place]))),
                known=None if bare else bool(member[place]),
            )
            for place, (layer, head) in enumerate(names)
        ],
        edge_list=[] if bare else listed,
        codes=CodesSummary(
            latents=_KINDS - 1, trained_on=10, fvu=[0.31], silent=0.0, codes_per_head=9.5
        ),
        stability=Stability(
            seeds=1 if bare else 3,
            rank_correlation=None if bare else WithInterval(value=0.61, low=0.55, high=0.66),
            top=int(found.sum()),
            jaccard=None if bare else WithInterval(value=0.72, low=0.6, high=0.8),
            jaccard_by_chance=0.06,
        ),
        known=None if bare else known,
        causal=None if bare else causal,
        no_causal="it was not asked for" if bare else None,
        left_out={"names": ["Brandon", "<b>Kyle</b>"], "places": []},
        examples={
            "positive": "When Mary and John went to the store, John gave a drink to",
            "negative": "When Mary and John went to the store, Anna gave a drink to",
        },
        seconds={"activations": 31.2, "nodes": 40.0, "edges": 12.5, "causal": 200.0},
        versions={"torch": "2"},
    )


def circuit_of_strangers(words: str) -> CircuitResult:
    """With ``words`` wherever a circuit has texts."""
    made = made_up()
    assert made.known is not None
    known = made.known.model_copy(update={"name": words, "source": words})
    texts = {"positive": words, "negative": words}
    changes = {"model": words, "known": known, "examples": texts, "left_out": {words: [words]}}
    return made.model_copy(update=changes)


def _causal() -> CausalCheck:
    def about(value: float) -> WithInterval:
        return WithInterval(value=value, low=value - 0.3, high=value + 0.25)

    sizes = [1, 2, 5, 10, 24, 36]
    return CausalCheck(
        prompts=64,
        held_out=True,
        reference="token by token",
        clean=about(3.8),
        none=about(-0.1),
        kept=[
            CausalPoint(heads=n, top=about(3.8 * n / (n + 3)), random=about(n / 20), sets=[n / 20])
            for n in sizes
        ],
        removed=[
            CausalPoint(heads=n, top=about(3.8 * 3 / (n + 3)), random=about(3.7 - n / 20), sets=[3])
            for n in sizes
        ],
    )


def add_circuits(session: Session) -> None:
    """``CIRCUIT`` and, older, ``BARE``."""
    store_circuit(session, BARE, "bare", "host", made_up(bare=True), None)
    session.flush()
    store_circuit(session, CIRCUIT, "who is given", "host", made_up(), None)
