"""A small library of rows: one host model, one SAE, features with examples, explanations."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from monosemy.data.token_bytes import TokenBytes
from monosemy.index.evidence import FeatureEvidence, Neighbour, TokenShare, evidence_label
from monosemy.index.example_bytes import examples_to_bytes
from monosemy.index.examples import TOP, Example
from service.database.tables import (
    Context,
    Document,
    Explanation,
    Feature,
    Model,
    Sae,
    Score,
)

EMBEDDING_WIDTH = 384
"""Of the packaged embedder."""
ROW_LENGTH = 32
ROWS = 40

# " 世" is cut over ids 5 and 6, as byte-level BPE does.
VOCABULARY = [b"<s>", b" the", b" king", b" queen", b" sat", b" \xe4\xb8", b"\x96", b".", b"\n"]


@dataclass(frozen=True)
class Library:
    model: uuid.UUID
    sae: uuid.UUID
    name: str
    features: int


def add_library(session: Session, name: str = "demo", features: int = 60) -> Library:
    """Density and maximum are shared by several features each, so that sorting meets ties."""
    rng = np.random.default_rng(0)
    text_id = f"text-{name}"
    model = Model(
        name=f"tiny-{name}",
        spec={"name": "tiny", "revision": None, "dtype": "float32", "device": "cpu"},
        info={
            "architecture": "LlamaForCausalLM",
            "n_layers": 4,
            "d_model": 32,
            "d_vocab": len(VOCABULARY),
            "sites": ["blocks.1.hook_resid_post"],
            "fingerprint": f"f-{name}",
            "has_chat_template": False,
        },
        token_bytes=TokenBytes(VOCABULARY).pack(),
    )
    session.add(model)
    session.flush()
    sae = Sae(
        name=name,
        model_id=model.id,
        site="blocks.1.hook_resid_post",
        architecture="topk",
        d_in=32,
        d_sae=features,
        path=f"saes/{name}",
        config={"k": 4},
        metrics={"fvu": 0.25, "l0": 4.0},
        provenance={"seed": 0},
        index={"path": f"indexes/{name}", "text_id": text_id, "tokens": ROWS * ROW_LENGTH},
    )
    session.add(sae)
    for document in range(ROWS // 2):
        session.add(Document(text_id=text_id, document=document, name=f"Article {document}"))
    for row in range(ROWS):
        ids = rng.integers(1, len(VOCABULARY), ROW_LENGTH)
        ids[:4] = [1, 5, 6, 2]
        session.add(
            Context(
                text_id=text_id,
                row=row,
                document=row // 2,
                start=row * ROW_LENGTH,
                token_ids=ids.astype("<u4").tobytes(),
            )
        )
    session.flush()
    session.add_all(make_feature(sae.id, index, features) for index in range(features))
    session.flush()
    return Library(model.id, sae.id, name, features)


def make_feature(sae: uuid.UUID, index: int, features: int) -> Feature:
    evidence = FeatureEvidence(
        feature=index,
        count=10 * (index % 5),
        density=(index % 5) / 100,
        max_activation=float(index % 7),
        mean_activation=0.5,
        token_firings=10 * (index % 5),
        top_tokens=[TokenShare(2, " king" if index % 2 else " queen", 0.9, 9, 0.5)],
        cosine_neighbours=[
            Neighbour((index + 1) % features, 0.9),
            Neighbour((index + 2) % features, 0.8),
        ],
        coactive_neighbours=[Neighbour((index + 3) % features, 0.3)],
    )
    return Feature(
        sae_id=sae,
        index=index,
        density=evidence.density,
        max_activation=evidence.max_activation,
        postings=evidence.count,
        label=evidence_label(evidence),
        evidence=evidence.as_dict(),
        examples=examples_to_bytes(make_examples(index) if evidence.count else []),
    )


def make_examples(index: int) -> list[Example]:
    """Three top examples, then two of each of two quantiles; the first window starts at id 6."""
    examples = []
    for number in range(7):
        row = (index + number) % ROWS
        start = row * ROW_LENGTH + (2 if number == 0 else 0)
        group: str | int = TOP if number < 3 else (number - 3) // 2
        examples.append(
            Example(
                row=row,
                document=row // 2,
                position=start + 1,
                group=group,
                start=start,
                end=start + 8,
                offsets=(1, 4),
                values=(8.0 - number, 0.5),
            )
        )
    return examples


def add_explanation(
    session: Session,
    library: Library,
    feature: int,
    label: str,
    text: str,
    value: float | None = None,
    embedding: list[float] | None = None,
    key: str = "k",
) -> uuid.UUID:
    explanation = Explanation(
        sae_id=library.sae,
        feature=feature,
        explainer="default",
        key=key,
        text=text,
        label=label,
        judge="judge",
        provenance={"prompt": 1},
        embedding=embedding,
    )
    session.add(explanation)
    session.flush()
    if value is not None:
        session.add(
            Score(
                sae_id=library.sae,
                explanation_id=explanation.id,
                scorer="detection",
                key="k",
                metric="balanced_accuracy",
                value=value,
                low=value - 0.1,
                high=value + 0.1,
                n=20,
                n_failed=1,
                baseline=0.5,
                details={"tp": 8},
                judge="judge",
            )
        )
        session.flush()
    return explanation.id


def unit(axis: int) -> list[float]:
    """The unit vector along ``axis``."""
    vector = [0.0] * EMBEDDING_WIDTH
    vector[axis] = 1.0
    return vector
