"""What an endpoint can do is found out by asking it; and its bad day is not taken for a lack."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from monosemy.interp.judging import prompt_logprobs
from monosemy.interp.judging.capabilities import Capability, probe_capabilities
from monosemy.interp.judging.endpoint import Limits
from monosemy.interp.judging.failures import AnswerError, EndpointError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.judging.prompt_logprobs import PromptToken, at_offsets
from monosemy.specs import JudgeSpec
from tests.support.batch_stub import BatchStub
from tests.support.prompt_logprobs_stub import echo, ignoring
from tests.support.stub_server import Answer, Request, StubServer, error, good


def found_at(stub: StubServer, model: str | None = "stub") -> dict[str, Capability]:
    async def run() -> list[Capability]:
        limits = Limits(attempts=2, first_wait=0.01)
        async with Judge(stub.url, None, model, JudgeSpec(), limits) as judge:
            return await probe_capabilities(judge)

    return {each.name: each for each in asyncio.run(run())}


def with_logprobs(request: Request) -> Answer:
    """A chat answer that has log probabilities where they are asked for."""
    if not request.get("logprobs"):
        return good(colour="blue")
    token = {"token": "Blue", "logprob": -0.1, "bytes": None}
    tops = [{**token, "token": name} for name in "abc"]
    choice = {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": "Blue"},
        "logprobs": {"content": [{**token, "top_logprobs": tops}]},
    }
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "stub"}
    return Answer(body=json.dumps({**body, "choices": [choice]}))


def test_an_endpoint_that_can_do_everything() -> None:
    some = echo(lambda prompt: {"a": 0.5, "b": 0.5})
    with BatchStub(on_probe=with_logprobs, on_complete=some) as stub:
        capabilities = found_at(stub)
    assert {name: each.there for name, each in capabilities.items()} == {
        "JSON schema": True,
        "prompt logprobs": True,
        "answer logprobs": True,
        "Batch API": True,
    }
    assert capabilities["answer logprobs"].note == "the 3 likeliest of each token"
    assert capabilities["prompt logprobs"].note.startswith("by echo, the 20")


def test_one_that_can_do_nothing_but_talk() -> None:
    def talk(request: Request) -> Answer:
        refused = "response_format" in request or "logprobs" in request
        return error(400, "unknown field") if refused else Answer('{"colour": "blue"}')

    with BatchStub(on_probe=talk, on_complete=ignoring, offers=False) as stub:
        capabilities = found_at(stub)
    assert not any(each.there for each in capabilities.values())
    assert capabilities["JSON schema"].note == "answers in text"
    assert "status 404" in capabilities["Batch API"].note
    assert all(each.note and each.needed_for and each.otherwise for each in capabilities.values())


def test_trouble_is_not_a_lack() -> None:
    def broken(request: Request) -> Answer:
        return error(503, "overloaded") if request.get("logprobs") else good(colour="blue")

    with BatchStub(on_probe=broken) as stub:
        assert found_at(stub)["answer logprobs"].there is None


def test_no_endpoint_and_no_model() -> None:
    with StubServer(models=("one", "two")) as stub, pytest.raises(EndpointError, match="2 models"):
        found_at(stub, model=None)
    with pytest.raises(EndpointError, match="cannot be reached"):
        found_at(stub)


def test_a_server_that_fails_is_asked_for_prompt_logprobs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """500 after 500 holds for some minutes, not for ever."""
    healthy = echo(lambda prompt: {"a": 0.5, "b": 0.5})
    ill = [True]

    def complete(request: Request) -> Answer:
        return error(500, "out of memory") if ill[0] else healthy(request)

    async def run(stub: StubServer) -> list[bool]:
        limits = Limits(attempts=2, first_wait=0.01)
        capabilities = []
        async with Judge(stub.url, None, "stub", JudgeSpec(), limits) as judge:
            for _ in range(2):
                capabilities.append((await judge.prompt_logprobs.probe())[0])
            calls = len(stub.completions)
            ill[0] = False
            capabilities.append((await judge.prompt_logprobs.probe())[0])
            assert len(stub.completions) == calls, "what was found holds for a while"
            later = time.monotonic() + 601
            monkeypatch.setattr(prompt_logprobs.time, "monotonic", lambda: later)
            capabilities.append((await judge.prompt_logprobs.probe())[0])
        return capabilities

    with StubServer(on_complete=complete) as stub:
        assert asyncio.run(run(stub)) == [False, False, False, True]


PROMPT = 'Tokens.\n"The"\t1\n" sky"\t2\n'
PLACES = [PROMPT.index("1"), PROMPT.index("2")]
RAW = {
    "byte-level BPE": 'Tokens|.|Ċ|"|The|"|ĉ|1|Ċ|"|Ġsky|"ĉ|2|Ċ',
    "SentencePiece": '▁Tokens|.|<0x0A>|"|The|"|<0x09>|1|<0x0A>|"|▁sky|"|<0x09>|2|<0x0A>',
    "OpenAI": 'Tokens|.\n|"The|"\t|1|\n|"| sky|bytes:\\x22\\x09|2|\n',
}


@pytest.mark.parametrize("spelling", sorted(RAW))
def test_raw_spellings_of_tokens(spelling: str) -> None:
    tokens = [PromptToken(text, {text: -0.1}) for text in RAW[spelling].split("|")]
    tokens_found = at_offsets(PROMPT, tokens, PLACES)
    assert [token.text if token else None for token in tokens_found] == ["1", "2"]


def test_letters_that_raw_tokenizers_use_are_letters_in_a_text() -> None:
    """A Ċ in the text is no end of line where the endpoint shows text as it is."""
    prompt = 'Tokens.\n"Ċ"\t1\n"ĉ"\t2\n'
    shown = ["Tokens", ".", "\n", '"', "Ċ", '"', "\t", "1", "\n", '"', "ĉ", '"', "\t", "2", "\n"]
    tokens = [PromptToken(text, {}) for text in shown]
    tokens_found = at_offsets(prompt, tokens, [prompt.index("1"), prompt.index("2")])
    assert [token.text if token else None for token in tokens_found] == ["1", "2"]
    with pytest.raises(AnswerError, match="not those of the prompt"):
        at_offsets(prompt, tokens[:-3], [5])
