"""Stored graphs, made by the library's own functions of a random graph; no torch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from monosemy.graphs.firing import Firing
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.pruning import prune
from monosemy.graphs.summary import summary_of
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.specs.graphs import (
    AblationAgreement,
    CheckedPart,
    CircuitAtSize,
    CircuitSearch,
    CircuitShare,
    GraphCheck,
    GraphForecast,
    GraphSae,
    GraphSpec,
    PredictedChange,
)
from monosemy.specs.inference.graph_heads import (
    GraphHeads,
    GraphScore,
    HeadLoading,
    LayerLoading,
    ScoredKinds,
    ScoredPair,
    ScoredSource,
)
from monosemy.specs.inference.graph_steering import (
    EditedFeature,
    GraphSteered,
    MovedFeature,
    SteeredGoal,
    SteeredToken,
)
from monosemy.specs.rest.circuits import WithInterval
from service.database.graph_tables import StoredGraph
from service.graphs.storing import GraphDetails, NewGraph, keep_graph
from tests.support.planted_common import prompt_graph
from tests.support.random_graphs import random_graph

GRAPH, UPLOADED, SERVED, STEERABLE = (uuid.UUID(int=number) for number in range(22, 26))
GOAL_NODE, FEEDING_NODE = 60, 20
"""Of these graphs: a goal, and a feature of layer 1 at an earlier token that feeds it."""
PROMPT = "The capital of Texas is"


TEXTS = ("<s>", "The", " capital", " of", " Texas", " is")


def texas(
    seed: int = 0,
    layers: int = 4,
    each: int = 20,
    texts: Sequence[str] = TEXTS,
    goals: tuple[str, str] = (" Austin", " Dallas"),
) -> Graph:
    """A random graph of six tokens whose features are of one coder for each layer."""
    graph = random_graph(seed, layers, each, tokens=6, causal=True)
    nodes = graph.nodes
    feature = nodes.kind == NodeKind.feature
    coder = np.where(feature, nodes.layer, -1)
    number = np.where(feature, np.arange(len(nodes)) % each, nodes.number)
    about = {"host": "0" * 16, "untraced_share": 0.0, "traced_features": int(feature.sum())}
    return Graph(
        tuple(range(6)),
        tuple(texts),
        graph.layers,
        type(nodes)(nodes.kind, nodes.layer, nodes.position, coder, number, nodes.value),
        graph.rows,
        graph.goals,
        goals,
        graph.goal_weights,
        about,
    )


def add_graph(
    session: Session,
    saes: Sequence[tuple[uuid.UUID, str]] = (),
    *,
    id: uuid.UUID = GRAPH,
    name: str | None = "texas",
    model: str = "host",
    in_set: str | None = None,
    prompt: str = PROMPT,
    uploaded: bool = False,
    checked: bool = True,
    graph: Graph | None = None,
    labels: dict[int, str] | None = None,
    owner: uuid.UUID | None = None,
    firing: Firing | None = None,
    run: uuid.UUID | None = None,
    place: int = 0,
    prompts: int = 1,
) -> StoredGraph:
    """``saes``: (id, name) of each coder, in order; fewer than the graph has coders are filled up
    with ones that are not there.  ``labels``: of an uploaded graph's features, by node."""
    whole = graph or texas()
    pruned = prune(whole, 0.8, 0.98)
    summary = summary_of(whole, pruned.graph)
    coders = 1 + int(whole.nodes.coder.max())
    names = [GraphSae(id=str(sae), name=called, digest="0" * 16) for sae, called in saes]
    gone = [
        GraphSae(id=str(uuid.UUID(int=900 + coder)), name=f"gone-{coder}", digest="1" * 16)
        for coder in range(len(names), coders)
    ]
    forecast = GraphForecast(tokens=6, features=80, rows=82, seconds=0.5, bytes=2**20)
    summary = summary.model_copy(
        update={
            "forecast": None if uploaded else forecast,
            "check": check() if checked and not uploaded else None,
        }
    )
    new = NewGraph(
        id=id,
        name=name,
        model=model,
        run_id=None if uploaded else run or id,
        place=place,
        prompts=prompts,
        in_set=in_set,
        prompt=prompt,
        firing=None if uploaded else firing or Firing.of(whole),
        graph=pruned.graph,
        whole=WholeInfluence.of(whole, pruned.kept),
        summary=summary,
        saes=[] if uploaded else [*names, *gone],
        uploaded=uploaded,
        details=GraphDetails(
            spec=None if uploaded else GraphSpec(prompt=prompt),
            labels=labels or {},
            notes=["3 links name nodes that are not in the file, and were left out."]
            if uploaded
            else [],
        ),
    )
    return keep_graph(session, new, owner)


def check() -> GraphCheck:
    """Made-up figures of an ablation."""

    def agreement(n: int, slope: float) -> AblationAgreement:
        return AblationAgreement(
            n=n,
            slope=WithInterval(value=slope, low=slope - 0.2, high=slope + 0.2),
            spearman=WithInterval(value=0.8, low=0.6, high=0.9),
            same_sign=0.9,
            mean_real=0.4,
        )

    changes = [
        PredictedChange(
            name=f"{layer}/{layer} at 4 ({' Texas'})",
            predicted=0.5 * layer,
            frozen=0.5 * layer,
            mlps_held=None,
            free=0.4 * layer,
        )
        for layer in range(4)
    ]
    part = CheckedPart(
        strongest=agreement(4, 0.8), matched=agreement(4, 0.6), mlps_held=None, changes=changes
    )
    share = CircuitShare(
        features=12,
        whole=2.0,
        none=-0.5,
        kept=0.7,
        lost=0.9,
        random_kept=WithInterval(value=0.1, low=-0.1, high=0.3),
        random_lost=WithInterval(value=0.05, low=-0.1, high=0.2),
    )
    bare = share.model_copy(update={"random_kept": None, "random_lost": None, "kept": 0.3})
    curve = [
        CircuitAtSize(
            features=size, kept=size / 12, random_kept=0.1, random_low=-0.1, random_high=0.2
        )
        for size in (1, 2, 4, 8, 12)
    ]
    search = CircuitSearch(
        wanted=0.6, features=8, kept=8 / 12, names=["0/3@1", "1/2@4"], curve=curve, orders=3
    )
    return GraphCheck(
        goal=" Austin",
        nodes=part,
        edges=part,
        with_errors=share,
        without_errors=bare,
        search=search,
    )


def add_steerable(session: Session, sae: uuid.UUID, name: str) -> StoredGraph:
    """``STEERABLE``, all of whose coders are one SAE that is there."""
    return add_graph(session, [(sae, name)] * 4, id=STEERABLE, name="steerable", checked=False)


def steered(edits: Sequence[tuple[int, int, int]] = ((0, 3, 2),)) -> dict[str, Any]:
    """What an inference server answers where these features (coder, latent, position) are ablated:
    made-up figures."""
    tokens = {" Austin": (5.25, 3.0, 0.5, 0.125), " Dallas": (4.5, 4.625, 0.25, 0.5)}
    made = GraphSteered(
        held="nothing",
        edited=[
            EditedFeature(coder=coder, latent=latent, position=at, before=1.5, after=0.0)
            for coder, latent, at in edits
        ],
        edits=len(edits),
        goals=[
            SteeredGoal(label=" Austin", before=5.25, after=3.0, direct=-0.5, predicted=-2.5),
            SteeredGoal(label=" Dallas", before=4.5, after=4.625, direct=0.0, predicted=0.25),
        ],
        tokens=[
            SteeredToken(
                id=11 + place,
                text=text,
                goal=text in tokens,
                logit_before=figures[0],
                logit_after=figures[1],
                probability_before=figures[2],
                probability_after=figures[3],
            )
            for place, (text, figures) in enumerate(
                {**tokens, " <b>": (-1.5, -1.0, 0.01, 0.02)}.items()
            )
        ],
        kl=0.25,
        features=[
            MovedFeature(coder=1, latent=7, position=4, before=2.0, after=0.5, predicted=-1.75),
            MovedFeature(coder=2, latent=19, position=5, before=0.0, after=0.75, predicted=None),
        ],
    )
    return made.model_dump(mode="json")


def heads_answer() -> dict[str, Any]:
    """What an inference server answers of the heads of an edge: made-up figures."""
    made = GraphHeads(
        value=0.75,
        heads=[HeadLoading(layer=1, head=2, value=0.5), HeadLoading(layer=0, head=1, value=-0.25)],
        layers=[
            LayerLoading(layer=0, heads=-0.25, bypass=1.0),
            LayerLoading(layer=1, heads=0.5, bypass=0.25),
        ],
    )
    return made.model_dump(mode="json")


def score_answer(layer: int, position: int, coder: int, latent: int) -> dict[str, Any]:
    """The same of a head's score, whose query has this feature."""
    feature = ScoredSource(
        kind="feature",
        branch="mlp",
        layer=layer,
        position=position,
        coder=coder,
        latent=latent,
        activation=1.5,
        score=2.0,
        relative=1.5,
    )
    bias = ScoredSource(kind="bias", bias="decoder", score=0.5, relative=0.25)
    other = ScoredSource(kind="other", score=-0.25, relative=0.125)
    made = GraphScore(
        layer=1,
        head=0,
        token=4,
        source=2,
        weight=0.625,
        score=2.25,
        average=0.375,
        query=[feature, bias, other],
        key=[ScoredSource(kind="token", position=2, score=2.25, relative=1.875)],
        pairs=[ScoredPair(query=0, key=0, score=2.0, relative=1.5)],
        exact=True,
        kinds=[ScoredKinds(query="feature", key="token", score=2.0, relative=1.5)],
    )
    return made.model_dump(mode="json")


PARAPHRASES = [uuid.UUID(int=60 + place) for place in range(3)]
PARAPHRASED = uuid.UUID(int=59)
"""The run that traced them."""


def add_paraphrases(session: Session, saes: Sequence[tuple[uuid.UUID, str]] = ()) -> None:
    """``PARAPHRASES``, three prompts of one run whose graphs share the core of
    ``planted_common``."""
    for place, id in enumerate(PARAPHRASES):
        one = prompt_graph(place)
        add_graph(
            session,
            saes,
            id=id,
            name=f"paraphrase-{place + 1}",
            prompt=f"The capital of Texas is, in way {place + 1}",
            graph=one.graph,
            firing=one.firing,
            checked=False,
            run=PARAPHRASED,
            place=place,
            prompts=3,
        )


def add_graphs(session: Session) -> None:
    """``GRAPH`` and, older, ``UPLOADED``."""
    add_graph(session, id=UPLOADED, name="from elsewhere", model="other", uploaded=True)
    session.flush()
    add_graph(session)
