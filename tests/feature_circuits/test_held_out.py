"""What a circuit is compared with on other pairs, and the intervals of what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.feature_circuits.coded_sites import coded_sites
from monosemy.feature_circuits.held_out import AblatedHost, dimension_nodes, dimension_reading
from monosemy.feature_circuits.intervals import OverPrompts
from monosemy.feature_circuits.nodes import Features
from monosemy.feature_circuits.pairs import Pair, PairGroup, groups_of
from monosemy.feature_circuits.readings import read_group
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.statistics.student import mean_interval
from monosemy.models.host import HostModel
from monosemy.specs.rest.circuits import WithInterval
from tests.support.attribution import random_sae, tiny_host_of
from tests.support.graph_coders import random_coder

READ, WRITTEN = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"
NOTHING = Features((), (), (), ())


@pytest.fixture(scope="module")
def host(tiny_tokenizer: Any) -> HostModel:
    return tiny_host_of("llama", tiny_tokenizer)


def prompts(count: int, pairs_of_each: int) -> list[PairGroup]:
    pairs = [
        Pair("", (number,), (100 + other,), (1,), (2,))
        for number in range(count)
        for other in range(pairs_of_each)
    ]
    return [PairGroup(tuple(pairs), 0)]


def test_pairs_of_one_prompt_are_one_observation() -> None:
    drawn = np.random.default_rng(3)
    upper, lower = drawn.normal(2, 1, 8), drawn.normal(4, 1, 8)
    once, often = OverPrompts(prompts(8, 1), 0), OverPrompts(prompts(8, 5), 0)
    repeated = np.repeat(upper, 5), np.repeat(lower, 5)
    for one, five in (
        (once.mean(upper), often.mean(repeated[0])),
        (once.ratio(upper, lower), often.ratio(*repeated)),
    ):
        assert list(five.model_dump().values()) == pytest.approx(list(one.model_dump().values()))


@pytest.mark.parametrize("count", [8, 20, 200])
def test_intervals_of_few_prompts_are_as_wide_as_students(count: int) -> None:
    values = np.random.default_rng(count).normal(4, 2, count)
    made = OverPrompts(prompts(count, 1), 0).mean(values)
    mean, low, high = mean_interval(values.tolist())
    assert low is not None and high is not None
    assert made.value == pytest.approx(mean)
    assert made.high - made.low == pytest.approx(high - low, rel=0.1)


def test_resamples_without_an_effect_are_left_out() -> None:
    lower = np.array([0.0, 0.0, 1.0, 1.0])
    made = OverPrompts(prompts(4, 1), 0).ratio(2 * lower, lower, 1e-6)
    assert made == WithInterval(value=2.0, low=2.0, high=2.0)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("transcodes", [False, True])
def test_dimensions_are_ablated_where_the_sae_reads(
    host: HostModel, aligned: bool, transcodes: bool
) -> None:
    """With everything ablated a site has its mean, of features and errors as of dimensions."""
    if transcodes:
        hosted = HostedSAE.at(host, random_coder(host.d_model, host.d_model), READ, WRITTEN)
    else:
        hosted = HostedSAE.at(host, random_sae(host.d_model, seed=1), READ)
    drawn = torch.Generator().manual_seed(5)
    ids = torch.randint(3, host.d_vocab, (4, 2, 9), generator=drawn).tolist()
    pairs = [Pair("", tuple(clean), tuple(patch), (5,), (9,)) for clean, patch in ids]
    (group,) = groups_of(pairs, host, False)
    ((_, site),) = coded_sites(host, [hosted])
    norms = read_group(host, [site], group, 4).sites[0].clean.read_PTD.norm(dim=-1)
    limited = replace(hosted, max_norm=float(norms.median()))
    ((_, site),) = coded_sites(host, [limited])
    reading = read_group(host, [site], group, 4)
    usable = reading.sites[0].clean.usable_PT
    assert 0 < int(usable.sum()) < usable.numel()
    dimensions = dimension_reading(reading.sites[0], group.bos)
    by_feature, by_dimension = (
        AblatedHost(host, [[each]], [0], aligned, 4).metric([group], NOTHING, errors=False)
        for each in (reading.sites[0], dimensions)
    )
    assert by_dimension == pytest.approx(by_feature, abs=1e-5)
    assert not np.allclose(by_feature, reading.clean_P.numpy(), atol=1e-4)
    gradients = [[torch.ones_like(reading.sites[0].change_PTD)]]
    (nodes,) = dimension_nodes([reading], gradients, True)
    either = (usable | reading.sites[0].patch.usable_PT).any(0).numpy()
    assert ((nodes.effect_CF != 0).any(1) == either).all()
