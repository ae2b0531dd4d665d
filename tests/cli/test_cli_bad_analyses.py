"""Input that no analysis can use: one line and exit code 2 from the command, 422 from the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from monosemy.circuits.supervised.prompts import read_task_prompts
from monosemy.data.tasks.own_prompts import read_prompts
from service.cli.main import app

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment", "library")]

TEXTS = [f"a whale {number}" for number in range(6)]
LABELLED = [{"text": text, "positive": number % 2 == 0} for number, text in enumerate(TEXTS * 2)]
COLOURS = [
    {
        "text": f"The cat number {number} is",
        "answer": " red",
        "wrong": " blue",
        "attributes": {"colour": "red", "number": str(number % 2)},
    }
    for number in range(20)
]
CONCEPT = ("concept", "find", "whales", "demo", "--targets", "one", "--retain", "other")
TASK = ("task", "demo", "--prompts", "one")
CIRCUIT = ("circuit", "find", "--prompts", "one")
PAIRS = ("feature-circuit", "demo", "--pairs", "one")
PAIR = {"clean": "a whale", "patch": "a clock", "answer": " swims", "wrong": " ticks"}


def lines(items: list[Any]) -> str:
    return "".join(f"{json.dumps(each) if isinstance(each, dict) else each}\n" for each in items)


@pytest.mark.parametrize(
    ("command", "one", "other", "said"),
    [
        (CONCEPT, TEXTS, [], "retain: at least 1 item must be given, and there are none"),
        (CONCEPT, [], TEXTS, "targets: at least 1 item must be given, and there are none"),
        (CONCEPT, TEXTS, TEXTS, "6 texts are both targets and to be retained"),
        (CONCEPT, TEXTS, TEXTS[:1], "1 text is both targets and to be retained"),
        (
            CIRCUIT,
            [*LABELLED, *({**e, "positive": not e["positive"]} for e in LABELLED)],
            [],
            "same",
        ),
        (CIRCUIT, [{**each, "positive": True} for each in LABELLED], [], "negative"),
        (TASK, COLOURS, [], "the attribute 'colour' has one value, 'red', in all prompts"),
        (PAIRS, [PAIR] * 3, [], "at least 4 items must be given"),
        (PAIRS, [*[PAIR] * 3, {**PAIR, "patch": None}], [], "pair 4 has no patch"),
        (("heads", "demo"), [], [], "an SAE at attn.hook_z is needed"),
        (("attention", "demo", "a whale"), [], [], "attn.hook_z"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_no_analysis_can_use_is_told_in_one_line(
    tmp_path: Path, command: tuple[str, ...], one: list[Any], other: list[Any], said: str
) -> None:
    files = {"one": tmp_path / "one", "other": tmp_path / "other"}
    suffix = ".txt" if command == CONCEPT else ".jsonl"
    files = {name: file.with_suffix(suffix) for name, file in files.items()}
    files["one"].write_text(lines(one), "utf-8")
    files["other"].write_text(lines(other), "utf-8")
    words = [str(files.get(word, word)) for word in command]
    ended = CliRunner().invoke(app, words, env={"COLUMNS": "400"})
    assert ended.exit_code == 2, ended.output
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1 and not ended.stdout


def test_the_api_says_the_same(served: str, tmp_path: Path) -> None:
    (prompts := tmp_path / "one.jsonl").write_text(lines(COLOURS), "utf-8")
    items = [each.model_dump(mode="json") for each in read_task_prompts(prompts)]
    prompts.write_text(lines([{**each, "positive": True} for each in LABELLED]), "utf-8")
    of_one_label = [each.model_dump(exclude_defaults=True) for each in read_prompts(prompts)]
    concept = {"kind": "concept", "name": "whales", "sae": "demo"}
    for spec, path, said in (
        ({**concept, "targets": TEXTS, "retain": []}, "retain", "at least 1 item"),
        ({**concept, "targets": TEXTS, "retain": TEXTS}, "", "6 texts are both"),
        (
            {"kind": "task", "saes": ["demo"], "prompts": {"task": "given", "items": items}},
            "",
            "the attribute 'colour' has one value, 'red'",
        ),
        (
            {"kind": "circuit", "prompts": {"task": "given", "items": of_one_label}},
            "prompts",
            "negative",
        ),
        ({"kind": "attention", "sae": "demo"}, "sae", "an SAE at attn.hook_z is needed"),
    ):
        answer = httpx.post(f"{served}/api/v1/runs", json=spec)
        assert answer.status_code == 422, answer.text
        faults = {each["path"]: each["message"] for each in answer.json()["errors"]}
        assert any(said in words and at.startswith(path) for at, words in faults.items()), faults
    chosen = {"task": "given", "items": items}
    varied = {"kind": "task", "saes": ["demo"], "prompts": chosen, "attributes": ["number"]}
    assert httpx.post(f"{served}/api/v1/runs", json=varied).status_code == 201
