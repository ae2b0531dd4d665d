"""Planted heads: an SAE on their outputs finds the planted directions, attribution the sources."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from monosemy.attribution.attention import AttentionBlock
from monosemy.attribution.attention_calls import AttentionCall
from monosemy.attribution.projections import Projection
from monosemy.attribution.reading import BlockReading
from monosemy.attribution.sources import feature_sources
from monosemy.saes.base import SAE, StepInfo
from monosemy.saes.registry import create
from monosemy.specs import BatchTopKSpec

HEADS, WIDTH, SOURCES, THEMES = 4, 16, 10, 6
STEPS, BATCH = 1500, 256


@dataclass
class World:
    """Each head looks mostly at one source, whose value may carry one of the head's directions."""

    directions_HTV: Tensor
    generator: torch.Generator

    @classmethod
    def seeded(cls, seed: int) -> World:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(HEADS, THEMES, WIDTH, generator=generator)
        return cls(rows / rows.norm(dim=-1, keepdim=True), generator)

    def draw(self, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(pattern ``[n, H, S]``, values ``[n, H, S, V]``, the planted source ``[n, H]``, the theme
        that it carries ``[n, H]``, -1 for none)."""
        shape = n, HEADS
        source = torch.randint(SOURCES, shape, generator=self.generator)
        pattern = torch.full((*shape, SOURCES), 0.2 / (SOURCES - 1))
        pattern.scatter_(2, source[..., None], 0.8)
        values = 0.02 * torch.randn(*shape, SOURCES, WIDTH, generator=self.generator)
        theme = torch.randint(THEMES, shape, generator=self.generator)
        carries = torch.rand(shape, generator=self.generator) < 0.3
        size = 1 + 0.5 * torch.rand(shape, generator=self.generator)
        added = self.directions_HTV[torch.arange(HEADS), theme] * (size * carries)[..., None]
        at = source[..., None, None].expand(*shape, 1, WIDTH)
        values.scatter_add_(2, at, added[:, :, None])
        return pattern, values, source, torch.where(carries, theme, -1)


def trained(world: World) -> SAE:
    sae = create(BatchTopKSpec(d_sae=40, k=1, dead_after_tokens=50_000), HEADS * WIDTH)
    sae.initialise(torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(sae.parameters(), lr=3e-3)
    nothing = torch.empty(0, dtype=torch.int64)
    for step in range(STEPS):
        pattern, values, _, _ = world.draw(BATCH)
        x = torch.einsum("nhs,nhsv->nhv", pattern, values).flatten(1)
        done = sae.training_pass(x, x, StepInfo(step, STEPS, nothing))
        loss = (x - done.reconstruction).square().sum() / (x - x.mean(0)).square().sum()
        loss = loss + sum(done.terms.values())
        optimiser.zero_grad()
        loss.backward()
        sae.project_decoder_gradient()
        optimiser.step()
        sae.after_step()
    return sae.requires_grad_(False)


def reading_of(pattern_HS: Tensor, values_HSV: Tensor) -> BlockReading:
    """One prompt: the sources, then the token that looks at them."""
    length = SOURCES + 1
    pattern = torch.eye(length).expand(HEADS, length, length).clone()
    pattern[:, -1] = torch.cat([pattern_HS, torch.zeros(HEADS, 1)], dim=1)
    values = torch.cat([values_HSV, torch.zeros(HEADS, 1, WIDTH)], dim=1)
    linear = nn.Linear(WIDTH, HEADS * WIDTH, bias=False)
    columns = torch.arange(HEADS * WIDTH)
    projection = Projection(linear, columns, None, (), columns.view(HEADS, WIDTH), 1.0)
    block = AttentionBlock(
        *(0, nn.Identity(), HEADS, WIDTH, None, projection, linear, None, None, "planted")
    )
    unused = torch.zeros(1, HEADS, length, WIDTH)
    call = AttentionCall(unused, unused, values[None], pattern=pattern[None])
    z_SZ = (pattern @ values).transpose(0, 1).flatten(1)
    return BlockReading(block, call, torch.zeros(length, WIDTH), z_SZ)


def test_planted_features_heads_and_sources_are_found() -> None:
    world = World.seeded(0)
    sae = trained(world)
    whole = torch.zeros(HEADS, THEMES, HEADS * WIDTH)
    for head in range(HEADS):
        whole[head, :, head * WIDTH : (head + 1) * WIDTH] = world.directions_HTV[head]
    likeness, latent = (whole.flatten(0, 1) @ sae.W_dec.T).max(-1)
    assert int((likeness > 0.97).sum()) >= 23
    norms_LH = sae.W_dec[latent].view(-1, HEADS, WIDTH).norm(dim=-1)
    own = torch.arange(HEADS).repeat_interleave(THEMES)
    share = norms_LH[torch.arange(len(own)), own] / norms_LH.sum(-1)
    assert float(share.mean()) > 0.9

    found = latent.view(HEADS, THEMES)
    pattern, values, source, theme = world.draw(60)
    right, mass, asked = 0, 0.0, 0
    for number in range(len(pattern)):
        reading = reading_of(pattern[number], values[number])
        heads = [head for head in range(HEADS) if theme[number, head] >= 0]
        wanted = [int(found[head, theme[number, head]]) for head in heads]
        codes = sae.encode(reading.z_SZ)
        for head, each in zip(
            heads, feature_sources(reading, sae, codes, {SOURCES: wanted}), strict=True
        ):
            by_source = each.by_HS.sum(0)
            positive = by_source.clamp_min(0)
            asked += 1
            right += int(by_source.argmax()) == int(source[number, head])
            mass += float(positive[source[number, head]] / positive.sum())
            assert int(each.by_HS.sum(1).argmax()) == head
            assert abs(each.rounding) < 1e-5
    assert asked > 40
    assert right / asked >= 0.98
    assert mass / asked > 0.95
