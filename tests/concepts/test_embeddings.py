"""What taking a concept out does to a text's embedding, in an encoder where the answer is known."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from monosemy.concepts.deactivation import Deactivation
from monosemy.concepts.embeddings import EmbeddingTest, Labelled, balanced_word
from monosemy.concepts.leace import leace
from monosemy.concepts.readings import read_texts
from monosemy.concepts.text_vectors import TextVectors, Way
from monosemy.errors import SpecError
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import ModelSpec, TopKSpec, parse_spec
from monosemy.specs.rest.concepts import EmbeddingFigures
from monosemy.workspace import Workspace
from tests.support.concept_texts import WORDS
from tests.support.tiny_clip import tiny_clip

SITE = "blocks.1.hook_resid_post"
CONCEPT, TWIN = "whales", "captain"
TEXT = "grey {} near the {} and the {}"
SIZE = 6.0


class World(NamedTuple):
    """An encoder whose word ``CONCEPT`` is ``TWIN`` and ``SIZE`` times a direction of its own: its
    first two blocks leave that where it is, feature 0 of the SAE reads it, and the third carries it
    on.  Without feature 0 a text is what it were with the twin."""

    hosted: HostedSAE
    fit: Labelled
    test: Labelled

    @property
    def vectors(self) -> TextVectors:
        return TextVectors(self.hosted, prepend_bos=True)

    def by(self, scale: float, *latents: int) -> Way:
        off = Deactivation(self.hosted.sae, dict.fromkeys(latents or (0,), scale))
        return Way.by("it", "random" if latents else "concept", SITE, off, scale)

    def figures(self, word: str | None = None, others: tuple[str, ...] = ()) -> EmbeddingFigures:
        read = read_texts(self.hosted, self.fit.texts, True, lambda _: None)
        eraser = leace(read.means(read.x_TD), self.fit.on_N)
        ways = [
            Way("nothing", "nothing", None),
            self.by(0.0),
            self.by(-8.0),
            self.by(0.0, 1, 2, 3),
            Way.everywhere(SITE, eraser),
        ]
        called = TEXT.format(CONCEPT, "river", "river")
        return EmbeddingTest(self.vectors, self.fit, self.test, called, others, word).figures(ways)


def labelled(texts: list[tuple[str, bool]]) -> Labelled:
    """Those with the concept are flagged."""
    return Labelled.of([([text], on, [on]) for text, on in texts])


def edited(folder: Path) -> HostModel:
    """The encoder of ``World``."""
    model = tiny_clip(folder)
    host = HostModel.load(
        ModelSpec(name=str(folder), dtype="float32", device="cpu"), Workspace(folder / "artifacts")
    )
    (concept,), (twin,) = (
        host.tokenizer(word, add_special_tokens=False)["input_ids"] for word in (CONCEPT, TWIN)
    )
    row_D = torch.zeros(model.config.hidden_size)
    row_D[0] = 1.0
    with torch.no_grad():
        for table in (
            model.embeddings.token_embedding.weight,
            model.embeddings.position_embedding.weight,
        ):
            table[:, 0] = 0.0
        table = model.embeddings.token_embedding.weight
        table[concept] = table[twin] + SIZE * row_D
        for layer in model.encoder.layers[:2]:
            for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
                linear.weight.zero_()
                linear.bias.zero_()
        model.encoder.layers[2].self_attn.v_proj.weight[:, 0] *= 5
    return HostModel.wrap(model, host.tokenizer, "edited")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    host = edited(tmp_path_factory.mktemp("clip") / "text_encoder")
    sae = create(TopKSpec(d_sae=40, k=4), host.d_model)
    with torch.no_grad():
        rows_FD = torch.randn(40, host.d_model, generator=torch.Generator().manual_seed(0))
        rows_FD[:, 0] = 0.0
        rows_FD[0] = torch.eye(host.d_model)[0]
        rows_FD = torch.nn.functional.normalize(rows_FD, dim=1)
        sae.W_dec.copy_(rows_FD)
        sae.W_enc.copy_(rows_FD.T)
    words = [word for word in WORDS if word != TWIN]
    pairs = list(permutations(words, 2))
    np.random.default_rng(0).shuffle(pairs)
    texts = [
        (TEXT.format(CONCEPT if number % 2 else TWIN, *pair), bool(number % 2))
        for number, pair in enumerate(pairs)
    ]
    hosted = HostedSAE.at(host, sae.requires_grad_(False), SITE)
    return World(hosted, labelled(texts[:32]), labelled(texts[32:]))


@pytest.fixture(scope="module")
def found(world: World) -> EmbeddingFigures:
    return world.figures(others=(TEXT.format(TWIN, "river", "river"),))


def test_without_its_feature_a_text_is_what_it_were_with_the_twin(world: World) -> None:
    targets = [text for text, on in zip(world.test.texts, world.test.on_N, strict=True) if on]
    twins = world.vectors.of([text.replace(CONCEPT, TWIN) for text in targets])
    change = world.by(0.0).change
    after = world.vectors.of(targets, change, [True] * len(targets))
    torch.testing.assert_close(after, twins, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(world.vectors.of(targets), twins, atol=1e-2)


def test_figures_are_those_of_the_known_answer(world: World, found: EmbeddingFigures) -> None:
    nothing, zero, turned, random, erased = found.changes
    assert (found.embedding, found.width, found.targets) == ("pooled", 32, 12)
    assert (found.flagged_targets, found.retain, found.flagged_retain) == (12, 12, 0)
    assert [each.equal.value for each in found.changes] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert [each.equal.n for each in found.changes] == [12] * 5

    assert nothing.cosine.value == pytest.approx(1.0) and nothing.named.value == 1.0
    assert nothing.probe.value == 1.0 and nothing.probe.n == 24
    assert zero.probe.value == 0.5 and zero.named.value == 0.0  # told as retain texts are
    assert zero.new_probe.low <= 0.5 <= zero.new_probe.high
    assert random.probe.value == 1.0 and random.named.value == 1.0
    cosines = [each.cosine.value or 0.0 for each in (turned, zero, random)]
    assert cosines == sorted(cosines) and cosines[1] < cosines[2]
    # Turned round, it is a mark of its own.
    assert (turned.new_probe.value or 0) > 0.9
    assert (erased.probe.value or 1) < 0.8
    for each in (zero, random):
        assert abs((each.word_probe.value or 0) - (nothing.word_probe.value or 0)) <= 0.15
    assert found.word in WORDS and found.missing == []
    for each in found.changes:
        for share in (each.cosine, each.similarity, each.probe, each.new_probe, each.word_probe):
            assert (
                share.low <= (share.value or 0) + 1e-9 and (share.value or 0) - 1e-9 <= share.high
            )


def test_what_cannot_be_measured_is_said(world: World) -> None:
    one_class = world.figures(word="Grey")
    assert one_class.word is None and "'Grey': of the texts" in one_class.missing[-1]
    assert "one class alone" in one_class.missing[-1] and "No others" in one_class.missing[0]
    assert all(each.word_probe.value is None for each in one_class.changes)
    assert all(each.named.value is None for each in one_class.changes)

    none = world.test.flagged_N & False
    silent = world._replace(test=Labelled(world.test.texts, world.test.on_N, none)).figures()
    assert silent.changes == [] and "No test target is flagged" in silent.missing[0]
    unfitted = Labelled(world.fit.texts, world.fit.on_N, world.fit.flagged_N & False)
    partly = world._replace(fit=unfitted).figures()
    assert "No probe is fitted anew" in partly.missing[1]
    assert partly.changes[1].new_probe.value is None and partly.changes[1].probe.value == 0.5


def test_the_word_is_the_most_balanced_one_and_not_the_concepts() -> None:
    texts = [("a red whale", True), ("a whale", True), ("a red ant", False), ("an ant", False)]
    use = labelled(texts * 2)
    assert balanced_word(use, use, "the whale") == "red"
    assert balanced_word(use, use, "red whale") is None
    assert balanced_word(labelled(texts), use, "whale") is None  # one of each is too few
    assert use.having("Red, whale").tolist() == [True, False, False, False] * 2


def test_names_that_contradict_are_refused() -> None:
    spec = {"kind": "concept", "name": "x", "sae": "s", "targets": ["a"], "retain": ["b"]}
    for options in ({"others": ["x"]}, {"called": "y", "others": ["z", "y"]}):
        with pytest.raises(SpecError, match="others holds what the concept itself is called"):
            parse_spec({**spec, **options})
    for option in ({"others": ["y"]}, {"called": "y"}, {"word": "y"}):
        with pytest.raises(SpecError, match="embeddings, which are left out"):
            parse_spec({**spec, **option, "embeddings": False})
