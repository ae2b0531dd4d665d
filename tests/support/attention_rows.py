"""A survey of attention heads over the library of ``library_rows``, of made-up decoder rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sqlalchemy import Engine, delete
from sqlalchemy.orm import Session

from monosemy.attribution.families import FAMILIES
from monosemy.attribution.head_features import head_shares, likeness, share_entropy
from monosemy.specs.hooks import Hooks
from monosemy.specs.rest.attention import (
    AttentionSummary,
    HeadFeature,
    HeadSurvey,
    SurveyedFeature,
)
from service.attention.repository import replace_attention
from service.database.attention_tables import SaeAttention
from service.database.session import transaction
from service.database.tables import Sae
from service.layouts.repository import which_fire
from tests.support.library_rows import Library

HEADS, D_HEAD = 3, 4
SITE = "blocks.2.attn.hook_z"
WEIGHTS = "0123456789abcdef"
"""Digest of the SAE that the survey is of."""


def add_attention(session: Session, library: Library) -> list[SurveyedFeature]:
    """Of the features that fire, in every family in turn; what was found of them."""
    sae = session.get_one(Sae, library.sae)
    assert sae.index is not None
    fires = torch.from_numpy(which_fire(session, library.sae, library.features))
    generator = torch.Generator().manual_seed(0)
    rows_FZ = torch.randn(library.features, HEADS * D_HEAD, generator=generator)
    shares_FH = head_shares(rows_FZ, HEADS)
    entropy_F = share_entropy(shares_FH)
    features = []
    for index in fires.nonzero()[:, 0].tolist():
        family = FAMILIES[index % len(FAMILIES)]
        known = family not in ("none", "long range")
        features.append(
            SurveyedFeature(
                index=index,
                head=int(shares_FH[index].argmax()),
                share=float(shares_FH[index].max()),
                shares=shares_FH[index].tolist(),
                entropy=float(entropy_F[index]),
                sources=shares_FH[index].flip(0).tolist(),
                family=family,
                n=8,
                deciding=0.75 if known else 0.25,
                low=0.625 if known else 0.125,
                high=0.875 if known else 0.375,
                figures={"first": 0.1, "previous": 0.2, "induction_chance": 0.05},
            )
        )
    bases = torch.eye(D_HEAD).expand(HEADS, D_HEAD, D_HEAD)
    summary = AttentionSummary(
        site=SITE,
        heads=[
            HeadSurvey(
                head=each.head,
                previous=0.25,
                duplicate=0.5,
                induction=0.125 * each.head,
                prefixes={1: 0.1, 5: 0.3},
                long_prefix=3.0 if each.head else None,
                owned=sum(feature.head == each.head for feature in features),
                families={
                    name: sum(f.head == each.head and f.family == name for f in features)
                    for name in FAMILIES
                },
                features=[
                    HeadFeature(index=index, share=share)
                    for index, share in zip(each.features, each.shares, strict=True)
                ],
                cosine=each.cosine,
                random=each.random,
                p=each.p,
                q=each.q,
            )
            for each in likeness(rows_FZ, bases, fires, draws=99)
        ],
        alike=0,
        draws=99,
        families={name: sum(f.family == name for f in features) for name in FAMILIES},
        features=len(features),
        rows=20,
        examples=8 * len(features),
        text_id=sae.index["text_id"],
        weights=WEIGHTS,
        host="0" * 16,
        parameters={"rows": 20, "examples": 8, "top": 10, "draws": 99, "seed": 0},
        versions={"transformers": "5"},
    )
    replace_attention(session, library.sae, None, summary, "0" * 16, features)
    return features


@contextmanager
def standing_at(engine: Engine, library: Library, reads: str = SITE) -> Iterator[None]:
    """The library's SAE reads and writes there meanwhile."""
    with transaction(engine) as session:
        sae = session.get_one(Sae, library.sae)
        before = sae.site, sae.config
        sae.site = reads
        sae.config = {**sae.config, "hooks": Hooks.at(reads).as_dict()}
    yield
    with transaction(engine) as session:
        sae = session.get_one(Sae, library.sae)
        sae.site, sae.config = before


@contextmanager
def surveyed(engine: Engine, library: Library) -> Iterator[list[SurveyedFeature]]:
    """The library has the survey meanwhile; what was found of its features."""
    with transaction(engine) as session:
        features = add_attention(session, library)
    yield features
    with transaction(engine) as session:
        remove_attention(session, library)


def remove_attention(session: Session, library: Library) -> None:
    session.execute(delete(SaeAttention).where(SaeAttention.sae_id == library.sae))
