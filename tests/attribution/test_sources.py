"""Attributions add up: by head and source, back through features, and by pairs of a score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from monosemy.attribution.backwards import Backwards, Part
from monosemy.attribution.scores import pair_scores
from monosemy.attribution.sources import (
    Sources,
    attention_layer,
    feature_sources,
    strongest,
)
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.specs import (
    BatchTopKSpec,
    GatedSpec,
    JumpReLUSpec,
    MatchingPursuitSpec,
    ReLUSpec,
    SAESpec,
    TopKSpec,
)
from tests.support.attribution import random_sae, some_ids, through, tiny_host_of

FAMILIES = ("llama", "gpt2", "gemma2", "gemma3", "qwen3", "neox-parallel", "olmo2")
LAYER = 2
SITE = f"blocks.{LAYER}.attn.hook_z"


def attributed(
    backwards: Backwards, sae: SAE, tokens: tuple[int, ...] = (5, 13), count: int = 3
) -> list[Sources]:
    block = backwards.block()
    codes = sae.encode(block.z_SZ)
    wanted = {token: strongest(codes, token, count) for token in tokens}
    return feature_sources(block, sae, codes, wanted)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_heads_and_sources_and_constants_make_the_pre_activation(
    architecture: str, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    sae, ids = random_sae(host.site_width(SITE)), some_ids(host)
    row = torch.tensor([ids])
    z_SZ = host.capture(row, torch.ones_like(row), [SITE])[SITE][0]
    for each in attributed(Backwards(host, ids, LAYER), sae):
        w = sae.W_enc[:, each.feature]
        pre = float((z_SZ[each.token] - sae.b_dec) @ w + sae.b_enc[each.feature])
        size = max(abs(pre), float(each.by_HS.abs().sum()), 1.0)
        assert abs(each.pre - pre) <= 1e-5 * size
        assert abs(each.rounding) <= 1e-5 * size
        assert each.activation == pytest.approx(pre, rel=1e-4)
        by_head = (z_SZ[each.token] * w).view(4, -1).sum(1)
        torch.testing.assert_close(each.by_HS.sum(1) + each.b_v_H, by_head, rtol=1e-4, atol=1e-5)
        assert each.b_dec == pytest.approx(float(-sae.b_dec @ w), abs=1e-5)


@pytest.mark.parametrize(
    ("spec", "encoder"),
    [
        (TopKSpec(d_sae=96, k=6), False),
        (TopKSpec(d_sae=96, k=6, ista_steps=2), True),
        (BatchTopKSpec(d_sae=96, k=6), False),
        (JumpReLUSpec(d_sae=96), False),
        (ReLUSpec(d_sae=96), False),
        (GatedSpec(d_sae=96), False),
        (MatchingPursuitSpec(d_sae=96, k=6), True),
    ],
    ids=lambda value: value.architecture if isinstance(value, SAESpec) else "",
)
def test_every_architecture_adds_up_and_says_what_its_encoder_changed(
    spec: SAESpec, encoder: bool, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of("llama", tiny_tokenizer)
    sae, ids = random_sae(host.site_width(SITE), spec), some_ids(host)
    backwards = Backwards(host, ids, LAYER)
    found = attributed(backwards, sae, count=4)
    assert found
    for each in found:
        size = max(abs(each.pre), float(each.by_HS.abs().sum()))
        assert abs(each.rounding) <= 1e-5 * size
    changed = [abs(each.activation - each.pre) > 1e-4 * abs(each.pre) for each in found]
    assert any(changed) == encoder


def walked(parts: list[Part], above: float) -> Iterator[tuple[float, list[Part]]]:
    yield above, parts
    for part in parts:
        if part.parts is not None:
            yield from walked(part.parts, part.value)


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("with_saes", [True, False], ids=["features", "written"])
def test_every_level_is_the_sum_of_its_parts(
    architecture: str, with_saes: bool, tiny_tokenizer: Any
) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    sites = ("blocks.1.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.hook_resid_pre")
    behind = through(host, *sites) if with_saes else []
    sae, ids = random_sae(host.site_width(SITE)), some_ids(host)
    backwards = Backwards(host, ids, LAYER, behind, depth=6)
    kinds, levels = set(), 0
    for each in attributed(backwards, sae, tokens=(13,)):
        parts = backwards.trace(each, depth=6, listed=6)
        for above, level in walked(parts, each.pre):
            size = sum(abs(part.value) for part in level)
            rounding = sum(part.value for part in level if part.kind == "rounding")
            assert sum(part.value for part in level) == pytest.approx(above, rel=1e-6, abs=1e-9)
            assert abs(rounding) <= 1e-4 * max(abs(above), 0.1 * size)
            kinds |= {part.kind for part in level}
            levels += 1
    assert levels > 20
    assert {"source", "attention", "mlp", "embedding"} <= kinds
    assert ({"feature", "error"} <= kinds) == with_saes
    assert ("position" in kinds) == (architecture == "gpt2")


def test_a_feature_of_the_stream_counts_what_its_direction_counts(tiny_tokenizer: Any) -> None:
    """Moving the stream along one feature at one source, patterns and norms held, moves the
    pre-activation by what that feature's part says."""
    host = tiny_host_of("llama", tiny_tokenizer)
    (residual,) = through(host, f"blocks.{LAYER}.hook_resid_pre")
    sae, ids = random_sae(host.site_width(SITE)), some_ids(host)
    backwards = Backwards(host, ids, LAYER, [residual], depth=1)
    (each,) = attributed(backwards, sae, tokens=(13,), count=1)
    block, entry = backwards.block(), backwards.block().block.entry
    assert entry is not None
    for part in backwards.trace(each, depth=1, listed=50):
        for feature in part.parts or ():
            if feature.kind != "feature" or part.token is None:
                continue
            assert feature.feature is not None and feature.activation is not None
            moved = feature.activation * residual.sae.W_dec[feature.feature]
            normed = entry.linear(moved, block.entry_inverse_S1[part.token])
            value_HV = (normed @ block.block.value.weight())[block.block.value.select]
            weight_H = block.pattern_HSS[:, 13, part.token]
            z = (weight_H[:, None] * value_HV).flatten()
            expected = float(z @ sae.W_enc[:, each.feature])
            assert feature.value == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("with_saes", [True, False], ids=["features", "written"])
def test_pairs_of_a_score_add_up(architecture: str, with_saes: bool, tiny_tokenizer: Any) -> None:
    host = tiny_host_of(architecture, tiny_tokenizer)
    behind = through(host, f"blocks.{LAYER}.hook_resid_pre") if with_saes else []
    backwards = Backwards(host, some_ids(host), LAYER, behind, depth=2)
    block = backwards.block()
    for head, token, source in ((0, 13, 4), (1, 13, 13), (3, 6, 0)):
        found = pair_scores(backwards, head, token, source)
        size = float(found.pairs_QK.abs().sum())
        assert abs(float(found.pairs_QK.sum()) - found.score) <= 1e-6 * size
        difference = found.score - found.average
        assert abs(float(found.relative_QK.sum()) - difference) <= 2e-6 * size
        assert found.pairs_QK.shape == (len(found.queries), len(found.keys))
        # What the score makes of all keys is the pattern that the model used.
        scores = torch.tensor(
            [pair_scores(backwards, head, token, s).score for s in range(token + 1)]
        )
        assert block.block.scores is not None
        cap = block.block.scores.cap
        seen = block.pattern_HSS[head, token, : token + 1] > 0
        soft = (scores if cap is None else cap * (scores / cap).tanh())[seen].softmax(-1)
        torch.testing.assert_close(
            soft.float(), block.pattern_HSS[head, token, : token + 1][seen], rtol=1e-3, atol=1e-5
        )


def test_what_is_the_same_for_all_keys_does_not_count_relatively(tiny_tokenizer: Any) -> None:
    """A part of the key without rotation that no key lacks: query x b_K."""
    host = tiny_host_of("gpt2", tiny_tokenizer)
    with torch.no_grad():
        host.model.transformer.h[LAYER].attn.c_attn.bias[32:64] += 5
        host.model.transformer.h[LAYER].ln_1.bias.zero_()
    backwards = Backwards(host, some_ids(host), LAYER, depth=2)
    found = pair_scores(backwards, 0, 13, 4)
    assert found.keys[-1].kind == "bias"
    assert float(found.pairs_QK[:, -1].abs().sum()) > 1
    assert float(found.relative_QK[:, -1].abs().max()) < 1e-5


def test_bad_questions_are_refused(tiny_tokenizer: Any) -> None:
    host: HostModel = tiny_host_of("llama", tiny_tokenizer)
    backwards = Backwards(host, some_ids(host), LAYER, depth=2)
    with pytest.raises(DataError, match="heads 0 to 3"):
        pair_scores(backwards, 4, 5, 1)
    with pytest.raises(DataError, match="looks back"):
        pair_scores(backwards, 0, 5, 6)
    with pytest.raises(DataError, match="has no heads"):
        attention_layer("blocks.1.hook_mlp_out", 32, 4)
    with pytest.raises(DataError, match="Two SAEs"):
        two = through(host, "blocks.2.hook_resid_pre", "blocks.1.hook_resid_post")
        Backwards(host, some_ids(host), LAYER, two)
    with pytest.raises(DataError, match="not the stream"):
        Backwards(host, some_ids(host), LAYER, through(host, "blocks.1.hook_mlp_out"))
