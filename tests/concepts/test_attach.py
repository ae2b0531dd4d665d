"""Concepts held in a torch module: who is changed, who is not, and what is left behind."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import Tensor, nn

from monosemy.concepts.attach import Attached, TextTokens, deactivated, deactivated_in
from monosemy.concepts.deactivation import Deactivation, score_tokens
from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec
from monosemy.specs.concepts import FittedConcept
from tests.support.attribution import random_sae
from tests.support.tiny_clip import POSITIONS, tiny_clip

TEXTS = ["grey whales near the clock", "a clock", "she repaired a bridge before some river"]
LAYER = 1


class Encoder(NamedTuple):
    """A text encoder as a diffusion pipeline holds it, and texts as it pads them."""

    model: Any
    tokenizer: Any
    ids_BS: Tensor
    sae: SAE

    @property
    def layer(self) -> nn.Module:
        module: nn.Module = self.model.encoder.layers[LAYER]
        return module

    @property
    def tokens(self) -> TextTokens:
        ids = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return TextTokens(self.model, *ids)

    def read(self) -> tuple[Tensor, Tensor]:
        """(the hooked layer's output, the last hidden states)"""
        seen: list[Tensor] = []
        handle = self.layer.register_forward_hook(lambda _module, _args, out: seen.append(out))
        try:
            with torch.no_grad():
                last_BSD = self.model(self.ids_BS).last_hidden_state
        finally:
            handle.remove()
        return seen[0], last_BSD

    def own_tokens(self, row: int) -> Tensor:
        """Places of a text without BOS and padding; its EOS is the last."""
        ids_S = self.ids_BS[row]
        return torch.arange(1, int((ids_S == self.tokens.end_id).nonzero()[0]) + 1)

    def concept(self, rows: Sequence[int], name: str = "it", **options: Any) -> FittedConcept:
        """Features of the first of these texts, by which these and no others are flagged."""
        before_BSD, _ = self.read()
        places = [before_BSD[row][self.own_tokens(row)] for row in range(len(TEXTS))]
        codes = self.sae.encode(places[rows[0]])
        features = sorted(set(codes.indices[codes.values > 0].tolist()))
        concept = FittedConcept(name=name, features=features, threshold=0.0, **options)
        for count in range(len(features), 0, -1):
            concept = concept.model_copy(update={"features": features[:count]})
            scores = [score_tokens(self.sae, x_ND, [concept])[0] for x_ND in places]
            least = min(scores[row] for row in rows)
            most = max(score for row, score in enumerate(scores) if row not in rows)
            if least > most:
                return concept.model_copy(update={"threshold": (least + most) / 2})
        raise AssertionError("no features tell these texts")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder: Path = tmp_path_factory.mktemp("clip") / "text_encoder"
    model = tiny_clip(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    padded = tokenizer(TEXTS, padding="max_length", max_length=POSITIONS, return_tensors="pt")
    return Encoder(model, tokenizer, padded["input_ids"], random_sae(32))


def hooks_of(module: nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules())


def test_a_flagged_text_is_changed_and_the_others_are_bit_for_bit_as_before(
    encoder: Encoder,
) -> None:
    concept = encoder.concept([0], scale=-8.0)
    before_BSD, last_BSD = encoder.read()
    with deactivated(encoder.layer, encoder.sae, [concept], encoder.tokens) as attached:
        after_BSD, changed_BSD = encoder.read()
    assert [held[0].flagged for held in attached.held] == [True, False, False]
    assert torch.equal(after_BSD[1:], before_BSD[1:]) and torch.equal(changed_BSD[1:], last_BSD[1:])

    own_N = encoder.own_tokens(0)
    x_ND = before_BSD[0, own_N]
    codes = encoder.sae.encode(x_ND)
    off = Deactivation(encoder.sae, dict.fromkeys(concept.features, -8.0))
    assert torch.allclose(after_BSD[0, own_N], x_ND + off.change(codes), atol=1e-5)
    silent_N = (off.changed(codes).values == 0).all(-1)
    assert torch.equal(after_BSD[0, own_N[silent_N]], x_ND[silent_N])
    # BOS and padding are left alone where they are, and BOS sees nothing that comes later.
    rest_S = torch.ones(POSITIONS, dtype=torch.bool)
    rest_S[own_N] = False
    assert torch.equal(after_BSD[0, rest_S], before_BSD[0, rest_S])
    assert torch.equal(changed_BSD[0, 0], last_BSD[0, 0])
    assert not torch.equal(changed_BSD[0, own_N[-1]], last_BSD[0, own_N[-1]])


def test_scores_are_those_of_the_texts_alone_and_padding_never_counts(encoder: Encoder) -> None:
    concept = encoder.concept([0])
    with deactivated(encoder.layer, encoder.sae, [concept], encoder.tokens) as attached:
        encoder.model(encoder.ids_BS)
        together = [held[0].score for held in attached.held]
        alone = []
        for row in range(len(TEXTS)):
            end = int(encoder.own_tokens(row)[-1])
            encoder.model(encoder.ids_BS[row : row + 1, : end + 1])
            alone.append(attached.held[0][0].score)
    assert together == pytest.approx(alone, rel=1e-4)
    each = [[held[0].score for held in forward] for forward in attached.forwards]
    assert each == [together, *([score] for score in alone)]


def test_padding_of_a_flagged_text_is_deactivated_where_that_is_asked_for(encoder: Encoder) -> None:
    concept = encoder.concept([0], scale=-8.0).model_copy(update={"keep_error": False})
    before_BSD, last_BSD = encoder.read()
    opened = deactivated(encoder.layer, encoder.sae, [concept], encoder.tokens, padding=True)
    with opened as attached:
        after_BSD, changed_BSD = encoder.read()
    assert [held[0].flagged for held in attached.held] == [True, False, False]
    assert torch.equal(after_BSD[0, 0], before_BSD[0, 0])
    assert (after_BSD[0, 1:] != before_BSD[0, 1:]).any(-1).all()
    assert torch.equal(changed_BSD[1:], last_BSD[1:])


@pytest.mark.parametrize("collected_before", [False, True])
def test_hidden_states_that_a_pipeline_asks_for_are_the_changed_ones(
    encoder: Encoder, collected_before: bool
) -> None:
    """Those of the hooked layer too: transformers collects them by hooks that stay."""
    concept = encoder.concept([0])
    model = encoder.model if collected_before else copy.deepcopy(encoder.model)
    with torch.no_grad():
        if collected_before:
            model(encoder.ids_BS, output_hidden_states=True)
        layer, tokens = model.encoder.layers[LAYER], replace(encoder.tokens, encoder=model)
        with deactivated(layer, encoder.sae, [concept], tokens):
            given = model(encoder.ids_BS, output_hidden_states=True).hidden_states
            twice = model(encoder.ids_BS, output_hidden_states=True).hidden_states
        before_BSD, _ = encoder.read()
    for states in (given, twice):
        assert not torch.equal(states[LAYER + 1][0], before_BSD[0])
        assert torch.equal(states[LAYER + 1][1:], before_BSD[1:])


def test_several_concepts_hold_at_once_each_for_its_own_texts(encoder: Encoder) -> None:
    one, other = encoder.concept([0], "one"), encoder.concept([0, 2], "other", scale=-2.0)
    before_BSD, _ = encoder.read()
    with deactivated(encoder.layer, encoder.sae, [one, other], encoder.tokens) as attached:
        after_BSD, _ = encoder.read()
    flagged = [[each.flagged for each in held] for held in attached.held]
    assert flagged == [[True, True], [False, False], [False, True]]
    assert torch.equal(after_BSD[1], before_BSD[1])
    for row, concepts in ((0, [one, other]), (2, [other])):
        own_N = encoder.own_tokens(row)
        off = Deactivation.of(encoder.sae, concepts)
        change_ND = off.change(encoder.sae.encode(before_BSD[row, own_N]))
        assert torch.allclose(after_BSD[row, own_N], before_BSD[row, own_N] + change_ND, atol=1e-5)


def test_nothing_is_left_behind_not_even_after_an_error(encoder: Encoder) -> None:
    concept = encoder.concept([0])
    count, before = hooks_of(encoder.model), encoder.read()
    with (
        pytest.raises(ValueError, match="mine"),
        deactivated(encoder.layer, encoder.sae, [concept], encoder.tokens),
    ):
        assert hooks_of(encoder.model) == count + 2
        encoder.model(encoder.ids_BS)
        raise ValueError("mine")
    assert hooks_of(encoder.model) == count
    narrow = deactivated(encoder.layer, random_sae(16), [], encoder.tokens)
    with pytest.raises(DataError, match=r"SAE takes \[texts, tokens, 16\]"), narrow:
        encoder.model(encoder.ids_BS)
    assert hooks_of(encoder.model) == count
    for now, then in zip(encoder.read(), before, strict=True):
        assert torch.equal(now, then)


def test_what_cannot_be_held_is_refused(encoder: Encoder) -> None:
    concept = encoder.concept([0])
    count = hooks_of(encoder.model)
    beyond = concept.model_copy(update={"features": [96]})
    for sae, concepts, words in (
        (encoder.sae, [beyond], "none is number 96"),
        (create(TopKSpec(d_sae=96, k=8), 32, 16), [concept], "writes elsewhere"),
        (encoder.sae, ["whales"], "FittedConcept, not str"),
    ):
        with pytest.raises(DataError, match=words), deactivated(encoder.layer, sae, concepts):
            pass
    flat = nn.Flatten(0, 1)
    with (
        pytest.raises(DataError, match=r"gives \(15, 32\)"),
        deactivated(flat, encoder.sae, [concept]),
    ):
        flat(torch.zeros(3, 5, 32))
    embedded = encoder.model.embeddings(encoder.ids_BS)
    unseen = deactivated(encoder.layer, encoder.sae, [concept], encoder.tokens)
    with pytest.raises(DataError, match="ids of these texts were not seen"), unseen:
        encoder.model.encoder(inputs_embeds=embedded)
    assert hooks_of(encoder.model) == count


@pytest.mark.parametrize("side", ["input", "output"])
def test_any_module_will_do_and_its_first_token_is_left_out(side: Any) -> None:
    sae, module = random_sae(32), nn.Identity()
    x_BSD = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    codes = sae.encode(x_BSD[0, 1:])
    concept = FittedConcept(name="it", features=codes.indices[0].tolist(), threshold=-1.0)
    with deactivated(module, sae, [concept], side=side) as attached:
        after_BSD = module(x_BSD)
    assert isinstance(attached, Attached) and all(held[0].flagged for held in attached.held)
    assert torch.equal(after_BSD[:, 0], x_BSD[:, 0])
    change_ND = Deactivation(sae, dict.fromkeys(concept.features, 0.0)).change(codes)
    assert torch.allclose(after_BSD[0, 1:], x_BSD[0, 1:] + change_ND, atol=1e-5)
    with deactivated(module, sae, [concept], side=side) as attached:
        assert module(x_BSD[:, :1]).shape == (2, 1, 32)
        assert attached.held[0][0].score == 0 and module(x_BSD[:0]).shape == (0, 6, 32)
    assert module(x_BSD) is x_BSD


@pytest.mark.parametrize("kind", ["hook_resid_post", "hook_resid_mid", "attn.hook_z"])
def test_a_hosted_sae_knows_its_module(encoder: Encoder, kind: str) -> None:
    host = HostModel.wrap(encoder.model, encoder.tokenizer, "tiny clip")
    site = f"blocks.{LAYER}.{kind}"
    hosted = HostedSAE.at(host, encoder.sae, site)
    concept = encoder.concept([0]).model_copy(update={"threshold": -1.0})
    _, last_BSD = encoder.read()
    with deactivated_in(hosted, [concept]) as attached:
        _, changed_BSD = encoder.read()
        assert attached.held[0][0].flagged
        acts = host.capture(encoder.ids_BS, torch.ones_like(encoder.ids_BS), [site])[site]
    assert torch.equal(changed_BSD[:, 0], last_BSD[:, 0])
    assert not torch.equal(changed_BSD[:, 1:], last_BSD[:, 1:]) and acts.shape[-1] == 32
    assert torch.equal(encoder.read()[1], last_BSD)
    if kind == "hook_resid_post":
        with deactivated(encoder.layer, encoder.sae, [concept], encoder.tokens):
            assert torch.equal(encoder.read()[1], changed_BSD)
