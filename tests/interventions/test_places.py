"""Which tokens are changed; before the first of them everything is bit for bit as without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interventions.edits import Interventions
from monosemy.interventions.generation import Generation, generate
from monosemy.interventions.intervention import steer
from monosemy.interventions.places import Places
from monosemy.models.host import HostModel
from monosemy.specs.inference.places import PositionRange, TokenPlaces, TokenPredicate
from tests.support.planted_hosted_sae import planted_hosted_sae
from tests.support.tiny_chats import chat_host
from tests.support.written import beside
from workers.prompts import Prompt, Tokenizing

BOS, EOS = 0, 1
CHAT = [
    {"role": "user", "content": "Who counted 12 whales, and why?"},
    {"role": "assistant", "content": "The clockmaker.\n\nHe repaired them."},
    {"role": "user", "content": "Thanks!"},
]


@pytest.fixture(scope="module")
def host(tiny_tokenizer: Any) -> HostModel:
    return chat_host(tiny_tokenizer)


@pytest.fixture(scope="module")
def hosted(host: HostModel) -> HostedSAE:
    return planted_hosted_sae(host, 300)


@pytest.fixture(scope="module")
def chat(host: HostModel) -> list[int]:
    ids, _ = Tokenizing(host.tokenizer, "tiny").row(Prompt(None, CHAT), prepend_bos=True)
    assert ids[0] == BOS and ids.count(BOS) == 4 and ids.count(EOS) == 4
    return ids


def named(**predicate: Any) -> TokenPlaces:
    return TokenPlaces(where="tokens", tokens=TokenPredicate(**predicate))


def within(first: int, last: int) -> TokenPlaces:
    return TokenPlaces(where="range", range=PositionRange(first=first, last=last))


def changed(host: HostModel, prompt: Sequence[int], places: TokenPlaces) -> list[int]:
    return Places(host, places).of_prompt(prompt).nonzero().flatten().tolist()


def test_words_say_which_tokens_of_a_chat(host: HostModel, chat: list[int]) -> None:
    special = [place for place, token in enumerate(chat) if token in (BOS, EOS)]
    ordinary = [place for place in range(len(chat)) if place not in special]
    last = len(chat) - 1
    assert last in ordinary
    expected = {
        "all": (ordinary, True),
        "new": ([last], True),
        "prompt": (ordinary, False),
        "generated": ([], True),
        "special": (special[1:], False),  # without the BOS that the row begins with
    }
    for where, (places, written) in expected.items():
        wanted = TokenPlaces(where=where)  # type: ignore[arg-type]
        assert changed(host, chat, wanted) == places, where
        assert Places(host, wanted).of_written(300) is written, where
    assert Places(host, TokenPlaces(where="special")).of_written(BOS)
    with_special = TokenPlaces(where="prompt", special_tokens=True)
    assert changed(host, chat, with_special) == list(range(1, len(chat)))


def test_the_last_token_is_changed_even_if_it_is_special(host: HostModel) -> None:
    for where in ("all", "new", "prompt"):
        wanted = TokenPlaces(where=where)  # type: ignore[arg-type]
        assert changed(host, [BOS, 50, EOS], wanted)[-1] == 2
        assert changed(host, [BOS], wanted) == [0]


def test_a_range_counts_the_tokens_as_the_model_reads_them(host: HostModel) -> None:
    prompt = [BOS, 50, EOS, 60, 70]
    for first, last, expected in (
        (1, 3, [1, 2, 3]),
        (-2, -1, [3, 4]),
        (2, -2, [2, 3]),
        (-5, 1, [1]),
        (4, 4, [4]),
        (0, -1, [1, 2, 3, 4]),
    ):
        assert changed(host, prompt, within(first, last)) == expected, (first, last)
        assert not Places(host, within(first, last)).of_written(60)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (within(1, 5), "Position 5 is beyond the prompt, which has 5 tokens"),
        (within(-6, -1), "Position -6 is beyond"),
        (within(-1, 2), "2 comes before -1"),
        (within(0, 0), "nothing but BOS"),
        (named(texts=["no such token"]), "No token of llama is 'no such token'"),
        (named(ids=[399, 400]), "no token 400"),
        (named(contains=["the", "qqqqq"]), "No token of llama contains 'qqqqq'"),
        (named(contains=["</s>"]), "contains '</s>'"),
    ],
)
def test_what_can_never_match_is_refused(host: HostModel, places: TokenPlaces, words: str) -> None:
    with pytest.raises(DataError, match=words):
        generate(host, beside([BOS, 50, EOS, 60, 70], None), Generation(2, places=places))


def test_a_predicate_is_about_the_texts_of_tokens(host: HostModel, chat: list[int]) -> None:
    table = host.token_bytes()
    pieces = [table[token].decode("utf-8", "replace") for token in chat]

    def where(met: Any) -> list[int]:
        return [place for place, text in enumerate(pieces) if place and met(text)]

    special = {"<s>", "</s>"}
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"kinds": ["newline"]}, lambda text: "\n" in text),
        ({"kinds": ["number"]}, lambda text: text.strip().isdigit()),
        ({"kinds": ["punctuation"]}, lambda text: text.strip() in {*",.?!"}),
        ({"kinds": ["blank"]}, lambda text: text.strip() == ""),
        ({"contains": ["s"]}, lambda text: "s" in text and text not in special),
        ({"texts": ["</s>", ","]}, lambda text: text in {"</s>", ","}),
        ({"ids": [BOS, chat[2]]}, lambda text: text in {"<s>", pieces[2]}),
        ({"texts": [","], "kinds": ["newline"]}, lambda text: text == "," or "\n" in text),
    ]
    for predicate, met in cases:
        expected = where(met)
        assert expected and changed(host, chat, named(**predicate)) == expected, predicate
    places = Places(host, named(kinds=["newline"]))
    assert places.of_written(table_id(host, "\n")) and not places.of_written(BOS)


def table_id(host: HostModel, text: str) -> int:
    table = host.token_bytes()
    return next(token for token in range(len(table)) if table[token] == text.encode())


PLACES = {
    "special": TokenPlaces(where="special"),
    "generated": TokenPlaces(where="generated"),
    "range": within(-6, -4),
    "newline": named(kinds=["newline"]),
    "new": TokenPlaces(where="new"),
}


@pytest.mark.parametrize("name", PLACES)
def test_before_the_first_change_all_is_bit_equal(
    host: HostModel, chat: list[int], name: str
) -> None:
    """Logits of every position of a forward; and of two forwards, the second after a cache."""
    early = planted_hosted_sae(host, 300, "blocks.0.hook_resid_post")
    push = Interventions([steer(0, 40.0)], early)
    places = Places(host, PLACES[name])
    where_S = places.of_prompt(chat)
    row_BS = torch.tensor([chat])
    mask_BS = torch.ones_like(row_BS)
    plain_SV = host.logits(row_BS, mask_BS)[0]
    steered_SV = host.logits(row_BS, mask_BS, push.edits(where_S[None]))[0]
    met = where_S.nonzero().flatten().tolist()
    first = met[0] if met else len(chat)
    assert first > 1 and (name == "generated") == (not met)
    assert torch.equal(steered_SV[:first], plain_SV[:first])
    assert all(not torch.equal(steered_SV[at], plain_SV[at]) for at in range(first, len(chat)))
    halves: list[list[torch.Tensor]] = []
    for change in (None, push):
        halves.append([])
        cache: Any = None
        for begin, end in ((0, first), (first, len(chat))):
            if begin < end:
                edits = change and change.edits(where_S[None, begin:end], begin)
                logits_BV, cache = host.extend(row_BS[:, begin:end], cache, edits)
                halves[-1].append(logits_BV[0])
    plain, steered = halves
    assert torch.equal(steered[0], plain[0])
    assert not met or not torch.equal(steered[1], plain[1])


@pytest.mark.parametrize("cache", [True, False])
def test_where_nothing_is_at_the_places_both_texts_are_the_same(
    host: HostModel, hosted: HostedSAE, cache: bool
) -> None:
    """A prompt without special tokens, and a text that writes none: not a bit differs."""
    prompt = [
        BOS,
        *host.tokenizer("The clockmaker repaired", add_special_tokens=False)["input_ids"],
    ]
    push = Interventions([steer(0, 40.0)], hosted)
    for places in (PLACES["special"], named(ids=[399])):
        how = Generation(12, 0.8, places, logprobs=3, cache=cache)
        met = Places(host, places)
        for seed in range(3):
            steps = list(generate(host, beside(prompt, push, None, seed=seed), how))
            for steered, plain in steps:
                assert steered == plain
                assert steered is not None
                if met.of_written(steered.token):
                    break
    how = Generation(12, 0.8, PLACES["generated"], logprobs=3, cache=cache)
    steps = list(generate(host, beside(prompt, push, None), how))
    assert steps[0][0] == steps[0][1] and steps[1][0] != steps[1][1], "the first is not pushed yet"
    everywhere = Generation(12, 0.8, cache=cache)
    steps = list(generate(host, beside(prompt, push, None), everywhere))
    assert any(steered != plain for steered, plain in steps)


@pytest.mark.parametrize("name", PLACES)
def test_with_a_cache_and_without_the_same_is_written(
    tiny_tokenizer: Any, chat: list[int], name: str
) -> None:
    texts = []
    for without in (False, True):
        host = chat_host(tiny_tokenizer)
        if without:
            host.abilities = replace(host.abilities, no_cache="it is to be tried without")
        push = Interventions([steer(0, 6.0)], planted_hosted_sae(host, 300))
        how = Generation(8, 0.8, PLACES[name])
        steps = list(generate(host, beside(chat, push, None, seed=1), how))
        texts.append([[each and each.token for each in step] for step in steps])
    assert texts[0] == texts[1]
