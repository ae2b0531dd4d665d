"""What features read and write at each place, against lengths by hand and the model's modules."""

from __future__ import annotations

import json

import pytest
import torch

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.index.evidence import FeatureEvidence, PlaceEvidence, TokenEffect
from monosemy.index.logits import LogitLens
from monosemy.index.place_lengths import PLACES_WITH_TOKENS, TOKENS, PlaceLengths
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import CLTSpec, CrosscoderSpec, SAESpec, TopKSpec
from monosemy.specs.hooks import Hooks

POSTS = ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]
MIDS = [f"blocks.{layer}.hook_resid_mid" for layer in range(3)]
MLPS = [f"blocks.{layer}.hook_mlp_out" for layer in range(3)]


def places_of(host: HostModel, sae: SAE, hooks: Hooks) -> list[list[PlaceEvidence]]:
    if not hooks.other_hosts:
        hooks = HostedSAE(host, sae, hooks).hooks
    texts = [f"t{token}" for token in range(host.d_vocab)]
    lengths = PlaceLengths(sae, hooks, LogitLens(host, hooks, 5), texts)
    return lengths.of(0, sae.d_sae, sae.decoder_rows(slice(None)))


def made(spec: SAESpec, d_in: int, d_out: int | None = None) -> SAE:
    sae = create(spec, d_in, d_out)
    sae.initialise_directions(torch.Generator().manual_seed(0))
    return sae


def test_a_planted_crosscoder_writes_as_long_as_planted(tiny_host: HostModel) -> None:
    d = tiny_host.site_width(POSTS[0])
    sae = made(CrosscoderSpec(places=2, d_sae=3, k=1), 2 * d)
    with torch.no_grad():
        sae.W_dec.zero_()
        sae.W_enc.zero_()
        sae.W_dec[0, 0], sae.W_dec[0, d] = 3.0, 0.6  # weak at the second
        sae.W_dec[1, d : d + 2] = torch.tensor([3.0, 4.0])  # of the second alone
        sae.W_enc[0, 0], sae.W_enc[d, 0] = 2.0, 1.0
        factor = torch.cat([torch.full((d,), 4.0), torch.full((d,), 0.5)])
        sae.rescale(factor, factor)  # lengths stay those of training
    own, other, silent = places_of(tiny_host, sae, Hooks.at(POSTS))
    first, second = own
    ratio = second.writes / first.writes  # type: ignore[operator]
    assert ratio == pytest.approx(0.2) and first.reads == pytest.approx(2 * second.reads)  # type: ignore[operator]
    assert [(each.place, each.reads) for each in other] == [(POSTS[1], None)]
    assert other[0].writes == pytest.approx(5.0 * first.writes / 3.0)  # type: ignore[operator]
    assert silent == []


def test_promoted_tokens_of_a_place_are_those_of_its_own_direction(tiny_host: HostModel) -> None:
    d = tiny_host.site_width(POSTS[0])
    sae = made(CrosscoderSpec(places=2, d_sae=7, k=1), 2 * d)
    lm, norm = tiny_host.model.lm_head, tiny_host.model.model.norm
    for latent, places in enumerate(places_of(tiny_host, sae, Hooks.at(POSTS))):
        for number, place in enumerate(places):
            row = sae.W_dec[latent, number * d : (number + 1) * d].detach()
            logits = torch.nn.functional.linear(row * norm.weight.detach(), lm.weight.detach())
            logits -= logits.mean()
            wanted = logits.topk(TOKENS)
            assert [each.id for each in place.promoted] == wanted.indices.tolist()
            effects = torch.tensor([each.effect for each in place.promoted])
            torch.testing.assert_close(effects, wanted.values, rtol=1e-4, atol=1e-6)
            assert place.promoted[0].text == f"t{place.promoted[0].id}"


def test_latents_of_a_cross_layer_transcoder_read_one_layer_and_write_those_after(
    tiny_host: HostModel,
) -> None:
    d = tiny_host.site_width(MIDS[0])
    sae = made(CLTSpec(places=3, d_sae=9, k=2), 3 * d, 3 * d)
    for latent, places in enumerate(places_of(tiny_host, sae, Hooks.at(MIDS, MLPS))):
        layer = latent // 3
        assert [each.place for each in places] == [MIDS[layer], *MLPS[layer:]]
        assert places[0].writes is None and places[1].reads is None
        lengths = torch.tensor([each.writes for each in places[1:]])
        torch.testing.assert_close(lengths.norm(), torch.tensor(1.0))


def test_tokens_are_only_of_the_places_written_most(tiny_host: HostModel) -> None:
    sites = [
        f"blocks.{layer}.{kind}"
        for layer in (0, 1, 2)
        for kind in ("hook_resid_pre", "hook_resid_mid")
    ]
    d = tiny_host.site_width(sites[0])
    sae = made(CrosscoderSpec(places=6, d_sae=2, k=1), 6 * d)
    with torch.no_grad():
        for place in range(6):
            sae.W_dec[0, place * d : (place + 1) * d] *= place + 1
    places, _ = places_of(tiny_host, sae, Hooks.at(sites))
    strongest = sorted(places, key=lambda each: each.writes or 0)[-PLACES_WITH_TOKENS:]
    assert {each.place for each in places if each.promoted} == {each.place for each in strongest}


def test_a_transcoder_says_where_and_its_tokens_are_the_features_own(tiny_host: HostModel) -> None:
    d = tiny_host.site_width(MIDS[1])
    sae = made(TopKSpec(d_sae=4, k=1), d, d)
    sae.transcodes = True
    for read, written in places_of(tiny_host, sae, Hooks.at(MIDS[1], MLPS[1])):
        assert (read.place, read.writes, written.place, written.reads) == (
            MIDS[1],
            None,
            MLPS[1],
            None,
        )
        assert written.writes == pytest.approx(1.0) and not written.promoted


def test_an_sae_of_one_place_has_none_and_keeps_its_bytes(tiny_host: HostModel) -> None:
    sae = made(TopKSpec(d_sae=4, k=1), tiny_host.site_width(POSTS[0]))
    assert places_of(tiny_host, sae, Hooks.at(POSTS[0])) == [[]] * 4
    assert "places" not in FeatureEvidence(0, 0, 0.0, 0.0, 0.0).as_dict()


def test_places_of_another_host_model_promote_nothing(tiny_host: HostModel) -> None:
    d = tiny_host.site_width(POSTS[0])
    sae = made(CrosscoderSpec(places=2, d_sae=2, k=1), 2 * d)
    hooks = Hooks.at([POSTS[0], f"chat:{POSTS[0]}"]).with_widths(lambda _hook: d)
    for own, other in places_of(tiny_host, sae, hooks):
        assert own.promoted and not other.promoted and other.place == f"chat:{POSTS[0]}"


def test_evidence_of_places_comes_back_as_it_was() -> None:
    places = [
        PlaceEvidence("x", 0.5, None),
        PlaceEvidence("y", None, 2.0, [TokenEffect(3, " a", 1.5)]),
    ]
    evidence = FeatureEvidence(0, 1, 0.1, 2.0, 1.0, places=places)
    data = json.loads(json.dumps(evidence.as_dict()))
    assert data["places"][0] == {"place": "x", "reads": 0.5}
    assert FeatureEvidence.from_dict(data) == evidence
    with pytest.raises(DataError, match="no feature evidence"):
        FeatureEvidence.from_dict({**data, "places": [{"place": "x", "promoted": [3]}]})
    with pytest.raises(DataError, match="no feature evidence"):
        FeatureEvidence.from_dict({**data, "places": [3]})
