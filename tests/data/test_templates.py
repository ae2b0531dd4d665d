"""Chat templates cost what they may cost, whatever they are."""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monosemy.data.chats import REFUSED, ChatRenderer
from monosemy.data.store import TokenStore
from monosemy.data.templates import MOST_COSTLY, Refused, TemplateLimits, TemplateRenderer
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.specs import TextSpec
from tests.support.tiny_chats import TEMPLATE, dialogues

LIMITS = TemplateLimits(seconds=1, bytes=200_000_000, characters=100_000)
HELLO = [{"role": "user", "content": "hello"}]

ENDLESS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
    "{% endfor %}{% endfor %}{% endfor %}"
)
COSTLY = {
    "nested loops": (ENDLESS, "more than 1 s"),
    "a power": ("{{ 9 ** (9 ** 9) }}", "more than 1 s|memory"),
    "a long string": ("{{ 'x' * 400000000 }}", "memory"),
    "a doubled string": (
        "{% set n = namespace(s='x') %}{% for i in range(40) %}{% set n.s = n.s + n.s %}"
        "{% endfor %}{{ n.s }}",
        "memory",
    ),
    "padding": ("{{ '%900000000d' % 1 }}", "memory"),
    "a list": ("{{ ([1] * 500000000) | length }}", "memory"),
    "long output": ("{{ 'x' * 1000000 }}", "1000000 characters"),
    "long output by pieces": (
        "{% for i in range(90000) %}{{ 'xxxxxxxxxx' }}{% endfor %}",
        "900000 characters",
    ),
}
"""Template -> why it gave nothing."""

CLOSED = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{% include '/etc/passwd' %}",
]
"""What Jinja's sandbox refuses, as before."""


SLOW = {"a power", "a doubled string", "padding", "a list"}
"""Each costs a process its life; their siblings are of the same kinds."""


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    made = TemplateRenderer(LIMITS)
    yield made
    made.close()


def with_template(tokenizer: Any, template: Any) -> Any:
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.campaign) if n in SLOW else n for n in COSTLY],
)
def test_what_a_template_may_cost(
    renderer: TemplateRenderer, tiny_tokenizer: Any, name: str
) -> None:
    template, why = COSTLY[name]
    (refused,) = renderer.render(with_template(tiny_tokenizer, template), [HELLO])
    assert isinstance(refused, Refused)
    assert any(part in refused.reason for part in why.split("|")), refused


@pytest.mark.parametrize("template", CLOSED)
def test_the_sandbox_stays(renderer: TemplateRenderer, tiny_tokenizer: Any, template: str) -> None:
    (refused,) = renderer.render(with_template(tiny_tokenizer, template), [HELLO])
    assert isinstance(refused, Refused) or refused == ""


def test_one_costly_chat_among_others(renderer: TemplateRenderer, tiny_tokenizer: Any) -> None:
    template = "{% if messages[0]['content'] == 'stop' %}" + ENDLESS + "{% endif %}" + TEMPLATE
    tokenizer = with_template(tiny_tokenizer, template)
    stop = [{"role": "user", "content": "stop"}]
    texts = renderer.render(tokenizer, [HELLO, stop, HELLO])
    assert isinstance(texts[1], Refused)
    assert texts[0] == texts[2] == "<s>system\nBe brief.</s>\n<s>user\nhello</s>\n"


def test_a_costly_template_is_not_tried_for_ever(
    tiny_host: HostModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = TemplateRenderer(LIMITS)
    monkeypatch.setattr("monosemy.data.chats.RENDERER", made)
    tokenizer = with_template(tiny_host.tokenizer, "{{ 'x' * 400000000 }}")
    chats = ChatRenderer(tokenizer, "x")
    with pytest.raises(DataError, match=rf"ended {MOST_COSTLY} times.*text.packing=document"):
        chats.render([HELLO] * 10)
    host = HostModel.wrap(tiny_host.model, tokenizer, "x")
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": HELLO}) + "\n")
    spec = TextSpec(source=str(file), packing="chat")
    with pytest.raises(DataError, match="too much time or memory"):
        TokenStore.build(spec, host, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    made.close()


@pytest.mark.parametrize("prompt", [False, True])
def test_it_renders_as_transformers_does(
    renderer: TemplateRenderer, tiny_tokenizer: Any, prompt: bool
) -> None:
    template = TEMPLATE + (
        "{{ bos_token }}{{ messages | tojson }}{{ eos_token }}{% generation %}x{% endgeneration %}"
        "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
    )
    tokenizer = with_template(tiny_tokenizer, template)
    chats = [*dialogues(), [{"role": "user", "content": "é \u2028 🐋 \ud800 </s>\x00"}]]
    assert renderer.render(tokenizer, chats, prompt) == [
        tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
        for chat in chats
    ]


def test_templates_by_name(renderer: TemplateRenderer, tiny_tokenizer: Any) -> None:
    several = {"tool_use": "tools", "default": "plain"}
    assert renderer.render(with_template(tiny_tokenizer, several), [HELLO]) == ["plain"]
    (refused,) = renderer.render(with_template(tiny_tokenizer, {"a": "1", "b": "2"}), [HELLO])
    assert isinstance(refused, Refused)


def test_many_chats_and_long_ones(renderer: TemplateRenderer, tiny_tokenizer: Any) -> None:
    tokenizer = with_template(tiny_tokenizer, "{{ messages[0]['content'] }}")
    chats = [[{"role": "user", "content": f"{number} " * 3000}] for number in range(700)]
    assert renderer.render(tokenizer, chats) == [chat[0]["content"] for chat in chats]
    assert renderer.render(tokenizer, []) == []
    (refused,) = renderer.render(tokenizer, [[{"role": "user", "content": "x" * 33_000_000}]])
    assert isinstance(refused, Refused) and "33000000" in refused.reason


def test_threads_share_it_and_none_gets_anothers_text(
    renderer: TemplateRenderer, tiny_tokenizer: Any
) -> None:
    tokenizer = with_template(tiny_tokenizer, "{{ messages[0]['content'] }}")
    wrong: list[str] = []

    def ask(number: int) -> None:
        for turn in range(20):
            wanted = f"{number}-{turn}"
            got = renderer.render(tokenizer, [[{"role": "user", "content": wanted}]])
            wrong.extend([] if got == [wanted] else [wanted])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_killed_process_is_replaced(renderer: TemplateRenderer, tiny_tokenizer: Any) -> None:
    tokenizer = with_template(tiny_tokenizer, "{{ messages[0]['content'] }}")
    assert renderer.render(tokenizer, [HELLO]) == ["hello"]
    child = renderer._child
    assert child is not None
    environment = Path(f"/proc/{child.pid}/environ").read_text()
    assert "MONOSEMY" not in environment and "HOME" not in environment
    os.kill(child.pid, 9)
    child.wait()
    assert renderer.render(tokenizer, [HELLO]) == ["hello"]


def test_a_refusal_is_counted_as_such(tiny_tokenizer: Any) -> None:
    chats = ChatRenderer(with_template(tiny_tokenizer, TEMPLATE), "x")
    wizard = [{"role": "wizard", "content": "abracadabra"}]
    texts = chats.render([HELLO, wizard])
    assert texts[0] is not None and texts[1] is None
    assert chats.skipped == {REFUSED: 1} and chats.first_refusal == "unknown role wizard"
