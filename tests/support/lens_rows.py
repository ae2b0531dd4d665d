"""Attention-output SAEs in a library, and what is found of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from service.database.tables import Sae
from tests.support.library_rows import Library, make_feature

HEADS_SITE, STREAM_SITE = "blocks.2.attn.hook_z", "blocks.1.hook_resid_post"


def add_attention_sae(
    session: Session, library: Library, name: str = "heads", site: str = HEADS_SITE
) -> uuid.UUID:
    """40 features of the library's host model, indexed over its text."""
    text_id = f"text-{library.name}"
    sae = Sae(
        name=name,
        model_id=library.model,
        site=site,
        architecture="topk",
        d_in=32,
        d_sae=40,
        path=f"saes/{name}",
        config={"k": 4},
        metrics={"fvu": 0.2, "l0": 4.0},
        provenance={"seed": 0},
        index={"path": f"indexes/{name}", "text_id": text_id, "tokens": 1000},
    )
    session.add(sae)
    session.flush()
    session.add_all(make_feature(sae.id, index, 40) for index in range(40))
    session.flush()
    return sae.id


def feature_answer(token: int, index: int, **changes: Any) -> dict[str, Any]:
    """Two heads, of which the second reads the first token; the sum is ``pre``."""
    by_source = [1.5, *[0.25] * token]
    total = sum(by_source) + 0.5
    return {
        **{"token": token, "index": index, "activation": total, "pre": total + 0.25},
        **{"by_head": [total - 1.5, 1.5], "bias_by_head": [0.125, 0.125], "bos": 0.5},
        **{"by_source": by_source, "cells": [[1, 0, 1.5], [0, -1, 0.5], [0, token, 0.25]]},
        **{"b_enc": 0.5, "b_dec": -0.5, "rounding": 0.0},
        **changes,
    }


def part(kind: str, value: float, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "value": value, **more}


PARTS = [
    part(
        *("source", 1.5),
        token=0,
        layer=2,
        parts=[
            part(
                *("feature", 1.0),
                **{"token": 0, "layer": 2, "sae": 1, "feature": 3, "activation": 2.0},
                parts=[part("mlp", 0.75, token=0, layer=1), part("b_enc", 0.25)],
            ),
            part("error", 0.5, token=0, layer=2, sae=1),
        ],
    ),
    part("other", 1.0, count=2),
    part("b_V", 0.25),
]

PAIR = {
    **{"head": 1, "token": 2, "source": 0, "weight": 0.75, "score": 2.0, "average": 0.5},
    "query": [
        {"kind": "feature", "layer": 2, "sae": 1, "feature": 11, "activation": 1.0,
         "score": 1.5, "relative": 1.25},
        {"kind": "bias", "score": 0.5, "relative": 0.25},
    ],
    "key": [
        {"kind": "error", "layer": 2, "sae": 1, "score": 1.75, "relative": 1.5},
        {"kind": "other", "score": 0.25, "relative": 0.0},
    ],
    "pairs": [[0, 0, 1.5, 1.25], [1, 0, 0.25, -0.125]],
    "groups": [
        {"query": "features", "key": "error", "score": 1.5, "relative": 1.25,
         "share": 0.75, "relative_share": 0.625},
        {"query": "bias", "key": "features", "score": 0.5, "relative": 0.25,
         "share": 0.25, "relative_share": 0.375},
    ],
}  # fmt: skip

ANSWER: dict[str, Any] = {
    "tokens": [{"id": 2, "text": " king"}, {"id": 4, "text": " sat"}, {"id": 7, "text": "."}],
    "bos": {"id": 0, "text": "<s>"},
    "layer": 2,
    "heads": 2,
    "features": [feature_answer(2, 7, parts=PARTS), feature_answer(2, 12)],
    "pair": PAIR,
}


def said_by_strangers(texts: Sequence[str]) -> dict[str, Any]:
    """An answer over tokens of any text; every part, pair and cell has one of them in it."""
    last = len(texts) - 1
    features = [
        feature_answer(
            last,
            index,
            by_source=[1.5, *[0.25] * last],
            cells=[[place % 2, place, (1.5 - place / 8) * (-1) ** place] for place in range(last)],
            parts=[
                part("source", 1.5 - place / 8, token=place, layer=2, parts=PARTS[0]["parts"])
                for place in range(last)
            ],
        )
        for index in range(2)
    ]
    tokens = [{"id": place, "text": text} for place, text in enumerate(texts)]
    pair = {**PAIR, "token": last, "source": 1}
    return {**ANSWER, "tokens": tokens, "features": features, "pair": pair}
