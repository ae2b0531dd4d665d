"""Effects add up to what patching a site does; what cannot be used is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monosemy.errors import DataError
from monosemy.feature_circuits.coded_sites import coded_sites, with_tokens
from monosemy.feature_circuits.effects import cut_effect, mean_gradient, midpoints
from monosemy.feature_circuits.pairs import Pair, groups_of, halves, pairs_of
from monosemy.feature_circuits.readings import read_group
from monosemy.feature_circuits.run import make_feature_circuit
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.specs.feature_circuits import FeatureCircuitSpec, GivenPairs
from tests.support.attribution import random_sae, tiny_host_of
from tests.support.graph_coders import random_coder

SITES = ("blocks.0.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.hook_resid_mid")


@pytest.fixture(scope="module")
def host(tiny_tokenizer: Any) -> HostModel:
    return tiny_host_of("llama", tiny_tokenizer)


def saes_of(host: HostModel) -> list[HostedSAE]:
    saes = [
        HostedSAE.at(host, random_sae(host.site_width(site), seed=at), site)
        for at, site in enumerate(SITES)
    ]
    coder = random_coder(host.d_model, host.d_model, skip=True)
    reads, writes = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"
    return [*saes, HostedSAE.at(host, coder, reads, writes)]


def random_pairs(host: HostModel, count: int = 3, length: int = 9) -> list[Pair]:
    drawn = torch.Generator().manual_seed(5)
    ids = torch.randint(3, host.d_vocab, (count, 2, length), generator=drawn).tolist()
    return [
        Pair(str(at), tuple(clean), tuple(patch), (5,), (9,))
        for at, (clean, patch) in enumerate(ids)
    ]


def test_midpoints_close_a_cut_and_left_endpoints_do_not(host: HostModel) -> None:
    """The known answer: 10 steps miss less than 2 % of the effect, a skip and z among the sites."""
    sites = with_tokens(host, [site for _, site in coded_sites(host, saes_of(host))])
    assert [each.site for each in sites[2:]] == [*SITES[1:], "blocks.1.hook_mlp_out"]
    (group,) = groups_of(random_pairs(host), host, False)
    reading = read_group(host, sites, group, 2)
    ways = {"midpoint": midpoints(10), "left": torch.arange(10) / 10}
    missed: dict[str, list[float]] = {name: [] for name in ways}
    for number, site in enumerate(reading.sites):
        if site.site.coder is None:
            continue
        cut_P = cut_effect(host, reading, number, 16)
        for name, shares in ways.items():
            gradient = mean_gradient(host, reading, number, shares, 7)
            effect_P = (gradient * site.change_PTD).sum((1, 2))
            total = (reading.clean_P - reading.patch_P).abs().sum()
            missed[name].append(float((effect_P - cut_P).abs().sum() / total))
    assert max(missed["midpoint"]) < 0.02
    both = zip(missed["midpoint"], missed["left"], strict=True)
    assert all(middle < 0.2 * left for middle, left in both)


def test_features_and_error_are_all_of_a_site(host: HostModel) -> None:
    sites = [site for _, site in coded_sites(host, saes_of(host))]
    (group,) = groups_of(random_pairs(host), host, False)
    for site in read_group(host, sites, group, 8).sites:
        latents = sorted(site.active())
        assert site.site.coder is not None
        features = site.change_of(latents) @ site.site.coder.rows(latents)
        whole = features + site.error_change_PTD
        assert torch.allclose(whole, site.change_PTD, atol=1e-5)


def test_a_run_changes_no_weight_and_leaves_the_host_as_it_was(host: HostModel) -> None:
    before = [each.requires_grad for each in host.model.parameters()]
    items = [
        {"clean": f"the {a} bird", "patch": f"the {b} bird", "answer": "e", "wrong": "o"}
        for a, b in ("ab", "cd", "ef", "gh")
    ]
    spec = FeatureCircuitSpec(pairs=GivenPairs(items=items), nodes=6, random_circuits=1, exact=4)  # type: ignore[arg-type]
    again = [
        make_feature_circuit(host, saes_of(host), list("abcd"), spec).summary for _ in range(2)
    ]
    same = {"forecast"}
    assert again[0].model_dump(exclude=same) == again[1].model_dump(exclude=same)
    assert [each.requires_grad for each in host.model.parameters()] == before
    assert all(each.grad is None for each in host.model.parameters())


def spec_of(*pairs: tuple[str, str], **options: Any) -> FeatureCircuitSpec:
    items = [{"clean": a, "patch": b, "answer": "e", "wrong": "o"} for a, b in pairs]
    items += [{**items[0], "clean": f"{items[0]['clean']}"}] * max(0, 4 - len(items))
    return FeatureCircuitSpec.model_validate(
        {"pairs": {"task": "given", "items": items}, **options}
    )


def test_pairs_that_cannot_be_used_are_refused(host: HostModel) -> None:
    with pytest.raises(DataError, match=r"Pair 1: the prompt has .* its patch"):
        pairs_of(spec_of(("a bird", "some other birds sang")), host)
    twice = [("a bird", "b bird")] * 3
    with pytest.raises(DataError, match=r"Pair 4: the prompt has .* its patch"):
        pairs_of(spec_of(*twice, ("a bird", "some other birds sang")), host)
    with pytest.raises(DataError, match="not one token of its own"):
        spec = spec_of(("a bird", "b bird"))
        item = spec.pairs.items[0].model_copy(update={"answer": " many tokens"})  # type: ignore[union-attr]
        pairs_of(spec.model_copy(update={"pairs": GivenPairs(items=[item] * 4)}), host)
    with pytest.raises(DataError, match="at the same place"):
        pairs_of(spec_of(("a bird", "b bird"), ("a b", "a c"), positions="aligned"), host)
    with pytest.raises(DataError, match="too few to find a circuit"):
        halves(pairs_of(spec_of(("a bird", "b bird")), host), 0.5, 0)


def test_no_prompt_is_on_both_sides(host: HostModel) -> None:
    pairs = random_pairs(host, 9)
    pairs += [Pair(p.text, p.clean, p.patch, (6,), (9,)) for p in pairs]
    fit, test = halves(pairs, 0.3, 1)
    assert (len(fit), len(test)) == (12, 6)
    assert not {p.clean for p in fit} & {p.clean for p in test}


def test_saes_that_do_not_fit_together_are_refused(host: HostModel) -> None:
    saes = saes_of(host)
    with pytest.raises(DataError, match="Two SAEs write"):
        coded_sites(host, [saes[0], saes[0]])
    backwards = HostedSAE.at(
        host, random_coder(32, 32), "blocks.1.hook_mlp_out", "blocks.0.hook_resid_post"
    )
    with pytest.raises(DataError, match="comes after"):
        coded_sites(host, [backwards])


def test_what_does_not_fit_into_memory_is_refused_before(host: HostModel) -> None:
    items = [
        {"clean": f"the {a} bird", "patch": f"the {b} bird", "answer": "e", "wrong": "o"}
        for a, b in ("ab", "cd", "ef", "gh")
    ]
    spec = FeatureCircuitSpec(pairs=GivenPairs(items=items))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="would take"):
        make_feature_circuit(host, saes_of(host), list("abcd"), spec, allowed=1000)
