"""Test 3 of a task: does a dictionary have features that stand for its attributes?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from monosemy.circuits.supervised.attribute_f1 import (
    AttributeF1,
    Half,
    attribute_f1,
    fires,
    labels_of,
)
from monosemy.circuits.supervised.dictionary import SupervisedDictionary
from monosemy.circuits.supervised.estimates import estimate
from monosemy.circuits.supervised.findings import ReadOut, Verdict, occluded_by, read_out, verdict
from monosemy.circuits.supervised.sections import Method, Place
from monosemy.circuits.supervised.task import Values
from monosemy.specs.rest.tasks import FeatureForValue, Interpretation

SHOWN = 5
"""Values that are told with their features."""


def interpret(
    method: Method,
    at: Place,
    position: str,
    dictionary: SupervisedDictionary,
    fit: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    resamples: int,
    seed: int,
    advance: Callable[[int], None],
) -> list[Interpretation]:
    """Of (activations ``[n, d]``, codes ``[n, K]``) of both halves at one node, every attribute;
    ``advance`` is told of attributes done."""
    values, coder = dictionary.values, method.coders[at]
    fired = [fires(coder.encode(acts_ND), method.features) for acts_ND, _ in (fit, test)]
    found: dict[str, AttributeF1] = {}
    reads: dict[str, ReadOut] = {}
    for number, name in enumerate(values.names):
        first = values.starts[number]
        labels = [labels_of(codes_NK[:, number], first) for _, codes_NK in (fit, test)]
        reads[name] = read_out(
            dictionary, number, (fit[0], labels[0]), (test[0], labels[1]), resamples, seed
        )
        fitted, tested = (Half(on, each) for on, each in zip(fired, labels, strict=True))
        found[name] = attribute_f1(fitted, tested, len(values.of[name]), seed, resamples)
        advance(1)
    verdicts: dict[str, Verdict] = {name: verdict(reads[name], found[name]) for name in values.of}
    return [
        _interpretation(method, at, position, name, values, found[name], reads, verdicts)
        for name in values.names
    ]


def _interpretation(
    method: Method,
    at: Place,
    position: str,
    name: str,
    values: Values,
    found: AttributeF1,
    reads: dict[str, ReadOut],
    verdicts: dict[str, Verdict],
) -> Interpretation:
    known = values.of[name]
    occluded = verdicts[name] == "occluded"
    order = np.argsort(-np.nan_to_num(found.single_V, nan=-1.0), kind="stable")[:SHOWN]
    return Interpretation(
        site=at[0],
        position=position,
        method=method.name,
        attribute=name,
        verdict=verdicts[name],
        by=occluded_by(name, reads, verdicts) if occluded else None,
        single=estimate(found.single),
        union=estimate(found.union),
        union_features=float(np.mean([len(each) for each in found.unions])),
        null=found.null,
        always=found.always,
        supervised=estimate(reads[name].f1),
        code_length=reads[name].length,
        values_feature=found.values_feature,
        values_union=[known[value] for value in found.values_union],
        values_f1=found.values_f1,
        best=[
            FeatureForValue(
                value=known[value],
                feature=int(found.feature_V[value]),
                f1=float(found.single_V[value]),
                features=list(found.unions[value]),
                union_f1=float(found.union_V[value]),
            )
            for value in order
            if np.isfinite(found.single_V[value])
        ],
    )
