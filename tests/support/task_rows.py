"""A task over the library of ``library_rows``: figures by hand, of every kind that there is."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from monosemy.specs.rest.tasks import (
    Approximation,
    Attribute,
    Control,
    ControlFloor,
    Estimate,
    FeatureForValue,
    Interpretation,
    MethodKind,
    MethodResult,
    Section,
    TaskResult,
    Verdict,
)
from service.tasks.repository import keep_task
from tests.support.library_rows import Library

TASK = uuid.UUID(int=19)
SITE = "blocks.9.hook_resid_post"
NAMES = ["Alice", "Bob", "Carol", "Dan"]


def estimate(value: float | None, n: int = 400, wide: float = 0.04) -> Estimate:
    """``value`` in the middle of its interval."""
    if value is None:
        return Estimate(value=None, low=-1e9, high=1e9, n=n)
    return Estimate(value=value, low=value - wide, high=value + wide, n=n)


def method(
    name: str, kind: MethodKind, kept: float | None, edits: dict[int, float], sae: str | None = None
) -> MethodResult:
    supervised = kind == "supervised"
    return MethodResult(
        name=name,
        kind=kind,
        sae=sae,
        features=10 if supervised else 60,
        l0=3.0 if supervised else 8.25,
        approximation=Approximation(
            sufficiency=estimate(kept),
            necessity=estimate(None if kept is None else kept - 0.125),
            r2=0.75,
        ),
        control=[
            Control(
                attribute="IO",
                features=count,
                accuracy=estimate(accuracy, 100),
                accuracy_changing=estimate(accuracy - 0.0625, 94),
                accuracy_answers=estimate(accuracy + 0.03125, 97),
                edited=count - 0.5,
                distance=0.375,
                magnitude=None if supervised else 0.0625 * count,
            )
            for count, accuracy in edits.items()
        ],
    )


def interpretation(
    name: str, attribute: str, verdict: Verdict, single: float, union: float, by: str | None = None
) -> Interpretation:
    return Interpretation(
        site=SITE,
        position="end",
        method=name,
        attribute=attribute,
        verdict=verdict,
        by=by,
        single=estimate(single),
        union=estimate(union),
        union_features=3.5,
        null=0.11,
        always=0.4,
        supervised=estimate(0.94),
        code_length=2.5 if attribute == "IO" else 1.25,
        values_feature=3,
        values_union=["Alice", "Bob"],
        values_f1=0.5,
        best=[
            FeatureForValue(value=each, feature=3, f1=single, features=[3, 11], union_f1=union)
            for each in NAMES[:2]
        ],
    )


def task_result(sae: str = "demo", sae_id: str = "", title: str = "indirect-objects") -> TaskResult:
    """What an SAE, its frozen twin, PCA and random directions are worth."""
    frozen = f"{sae}, frozen decoder"
    return TaskResult(
        task=title,
        model="tiny",
        positions=["end"],
        attributes=[
            Attribute(name="IO", values=NAMES, pairs=100),
            Attribute(name="Pos", values=["ABB", "BAB"], pairs=0),
        ],
        fit=1600,
        test=400,
        left_out={"names": ["Megan", "Toby"]},
        preferred=estimate(0.9375),
        answered=estimate(0.75),
        clean=estimate(3.75, wide=0.2),
        sections=[
            Section(
                sites=[SITE],
                mean_ablated=estimate(-0.125),
                floors=[
                    ControlFloor(
                        attribute="IO",
                        untouched=estimate(0.06, 100),
                        random=estimate(0.05, 100),
                        random_changing=estimate(0.04, 94, 0.03),
                        random_answers=estimate(0.07, 97),
                        pairs=100,
                    )
                ],
                methods=[
                    method("supervised", "supervised", 0.875, {2: 0.9}),
                    method(sae, "sae", 0.625, {1: 0.2, 4: 0.5, 32: 0.8}, sae_id),
                    method(frozen, "frozen", 0.5, {1: 0.1, 4: 0.25, 32: 0.6}, sae_id),
                    method("PCA, 8 components", "pca", 0.7, {1: 0.15, 4: 0.3, 32: 0.7}),
                    method(
                        "random directions, 8 active", "random", None, {1: 0.1, 4: 0.1, 32: 0.2}
                    ),
                ],
            )
        ],
        interpretations=[
            interpretation(sae, "IO", "split", 0.31, 0.78),
            interpretation(sae, "Pos", "occluded", 0.42, 0.45, "IO"),
            interpretation(frozen, "IO", "occluded", 0.2, 0.3),
            interpretation("PCA, 8 components", "IO", "found", 0.9, 0.9),
            interpretation("random directions, 8 active", "Pos", "unread", 0.4, 0.4),
        ],
        seconds=93.0,
        versions={"scipy": "1"},
    )


def add_task(session: Session, library: Library, name: str = "demo", id: uuid.UUID = TASK) -> None:
    """Of the library's SAE."""
    result = task_result(name, str(library.sae))
    keep_task(session, id, [library.sae], result)
