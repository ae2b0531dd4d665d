"""Prompt files, and corpus text that tries to be more than data."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monosemy.errors import DataError
from monosemy.interp.prompts import loader
from monosemy.interp.prompts.loader import Prompt, load_prompt, versions
from monosemy.interp.prompts.quoting import fence, quote, quote_marked
from tests.support.hostile import HOSTILE

FOLDER = Path(loader.__file__).parent

CONTROL = re.compile(r"<\||\|>|<｜|<<|>>|</?[a-z_]+\d*>|\[/?[A-Z_]{2,}\]")


# -------------------------------------------------------------------- files
def test_every_prompt_file_loads_and_knows_its_hash() -> None:
    files = sorted(FOLDER.glob("*.md"))
    assert {"detection_v1.md", "explain_default_v1.md"} < {file.name for file in files}
    for file in files:
        name, version = file.stem.rsplit("_v", 1)
        prompt = load_prompt(name, int(version))
        assert prompt.hash == hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
        assert prompt.provenance() == {"name": name, "version": int(version), "hash": prompt.hash}
        assert load_prompt(name).version == versions(name)[-1]


def test_the_constant_part_comes_first() -> None:
    for name in ("explain_default", "detection", "intruder", "simulate_json"):
        sections = load_prompt(name).sections
        assert sections[0][0] == "system"
        assert sections[-1][0] == "user"
        assert all("{{" not in text for _, text in sections[:-1])


def test_unknown_prompts_are_refused() -> None:
    with pytest.raises(DataError, match="No prompt 'nothing'"):
        load_prompt("nothing")
    with pytest.raises(DataError, match="version 99"):
        load_prompt("detection", 99)


def test_values_are_put_in_once_and_must_match() -> None:
    prompt = Prompt("p", 1, "", (("system", "Be {{a}}."), ("user", "{{b}} {{a}} {not} {{}}")))
    messages = prompt.render(a="{{b}}", b="\\1 {{a}}")
    assert messages == [
        {"role": "system", "content": "Be {{b}}."},
        {"role": "user", "content": "\\1 {{a}} {{b}} {not} {{}}"},
    ]
    with pytest.raises(DataError, match="'b'"):
        prompt.render(a="x")
    with pytest.raises(DataError, match="'c'"):
        prompt.render(a="x", b="y", c="z")


# -------------------------------------------------------------------- quoting
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_a_json_string_without_control_tokens(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text
    assert len(quoted.splitlines()) == 1
    assert not CONTROL.search(quoted)
    quoted.encode()  # a lone surrogate could not be sent


@given(st.text(alphabet=st.sampled_from('<>|｜s/INST[]_"\\\n {}x1'), max_size=30))
@example("<|<|")
@example("<<<>>>")
def test_quoting_is_lossless_and_clean(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text
    assert not re.search(r"<[<>|｜]|[>|｜]>|</?[A-Za-z_]+\d*>|\[/?[A-Z_]{2,}\]", quoted)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    quoted = quote(text)
    assert json.loads(quoted) == text
    assert len(quoted.splitlines()) == 1


@given(
    st.lists(
        st.tuples(st.text(alphabet="<>|s/x ", min_size=1, max_size=6), st.booleans()), max_size=6
    )
)
@example([("<", False), ("|im_end|", True), (">", False)])
@example([("s", True)])
@example([("a <", False), ("<b", True), ("> c", False)])
def test_only_our_marks_are_marks(runs: list[tuple[str, bool]]) -> None:
    quoted = quote_marked(runs)
    # Split at the marks: what is left must be the runs, marked ones at odd places.
    pieces = re.split(r"<<|>>", quoted[1:-1])
    expected: list[str] = [""]
    for text, marked in runs:
        if marked:
            expected += [text, ""]
        else:
            expected[-1] += text
    assert [json.loads(f'"{part}"') for part in pieces] == expected
    assert "<|" not in quoted
    assert not re.search(r"<<?(s|/s)>", quoted)


def test_the_fence_is_stable_and_in_no_text() -> None:
    name = fence(HOSTILE)
    assert fence(HOSTILE) == name
    assert fence(HOSTILE[:-1]) != name
    # A text that holds the very name it would get makes for another name.
    first = fence(["a"])
    assert fence(["a", first]) not in ("a", first)
    assert not any(name in text for text in HOSTILE)
