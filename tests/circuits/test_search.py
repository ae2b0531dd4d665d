"""The whole search on a tiny host: complete, the same each time, and refused where it must be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from monosemy.circuits.known import PUBLISHED
from monosemy.circuits.search import find_circuit
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import CircuitRun
from monosemy.specs.rest.circuits import CircuitResult

SMALL: dict[str, Any] = {
    "prompts": {"task": "indirect-objects", "count": 12},
    "codes": {"latents": 16, "examples": 4, "epochs": 20, "seeds": 2},
    "permutations": 20,
    "causal": {"prompts": 4, "sizes": [2, 8], "random_sets": 2},
}


def spec(**changes: Any) -> CircuitRun:
    return CircuitRun.model_validate({**SMALL, **changes})


class Stages(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[str, int, int | None]] = []

    def finish(self, progress: StageProgress) -> None:
        self.ended.append((progress.name, progress.done, progress.total))


def given(n: int = 6, **more: Any) -> list[dict[str, Any]]:
    names = ["Mary", "John", "Anna", "Paul", "Lisa", "Mark", "Lucy"]
    return [
        {"text": f"then {names[i]} then {first}", "positive": first == "to", **more}
        for first in ("to", "store")
        for i in range(n)
    ]


def test_everything_is_there(task_host: HostModel) -> None:
    reporter = Stages()
    asked = spec(known_heads=[[0, 1], [3, 2]])
    found = find_circuit(task_host, asked, reporter)
    assert [(each.layer, each.head) for each in found.heads] == [
        (layer, head) for layer in range(4) for head in range(4)
    ]
    assert [each.known for each in found.heads].count(True) == 2
    assert (found.positive, found.negative, found.seeds) == (12, 12, 2)
    assert found.edges is not None and found.edges.among == "all"
    assert found.edges.pairs == found.edges.kept == len(found.edge_list) == 6 * 16
    assert all(each.source[0] < each.target[0] for each in found.edge_list)
    zs = [each.z for each in found.edge_list]
    assert zs == sorted(zs, reverse=True)
    assert found.known is not None and found.known.members == 2 and found.known.edge_auc is not None
    assert found.causal is not None and found.causal.held_out
    assert found.causal.reference == "token by token"
    assert found.stability.seeds == 2 and found.stability.jaccard is not None
    assert "Vanessa" in found.left_out["names"]
    assert found.examples["positive"] != found.examples["negative"]
    assert set(found.seconds) == {"activations", "nodes", "edges", "causal"}
    assert reporter.ended == [
        ("activations", 24, 24),
        ("codes", 20, 20),
        ("codes", 20, 20),
        ("edges", 96, 96),
        ("causal", 14, 14),
    ]
    assert CircuitResult.model_validate_json(found.model_dump_json()) == found
    again = find_circuit(task_host, asked)
    assert again.model_copy(update={"seconds": found.seconds}) == found


def test_edges_among_the_found_heads_alone(task_host: HostModel) -> None:
    found = find_circuit(task_host, spec(edges="significant", causal=None))
    assert found.edges is not None and found.edges.among == "significant"
    assert found.edges.heads == found.found
    few = {(each.layer, each.head) for each in found.heads if each.found}
    assert {each.source for each in found.edge_list} | {e.target for e in found.edge_list} <= few
    assert found.causal is None and found.no_causal == "it was not asked for"
    none = find_circuit(task_host, spec(edges="none", causal=None))
    assert none.edges is None and none.edge_list == []


@pytest.mark.parametrize("task", ["greater-than", "docstrings"])
def test_the_other_tasks(task_host: HostModel, task: str) -> None:
    found = find_circuit(task_host, spec(prompts={"task": task, "count": 8}, edges="none"))
    assert found.task == task and found.causal is not None and found.causal.prompts == 4


def test_prompts_of_ones_own(task_host: HostModel) -> None:
    answers = {"right": [" Mary"], "wrong": [" John"]}
    asked = spec(prompts={"task": "given", "items": given(**answers)})
    found = find_circuit(task_host, asked)
    assert found.causal is not None and not found.causal.held_out
    assert found.causal.reference == "all tokens"
    without = find_circuit(task_host, spec(prompts={"task": "given", "items": given()}))
    assert without.causal is None
    assert without.no_causal is not None and "right and wrong answers" in without.no_causal


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"known_heads": [[0, 1], [4, 0]]}, r"no head 4\.0; it has 4 layers of 4 heads"),
        ({"known_heads": [[0, 4]]}, r"no head 0\.4"),
        ({"known": "gpt2-ioi"}, "12 layers of 12 heads; the host model has 4 layers of 4"),
        (
            {"known_heads": [[a, b] for a in range(4) for b in range(4)]},
            "all heads of the host model",
        ),
        ({"prompts": {"task": "indirect-objects", "templates": ["no"]}}, "no template 'no'"),
        (
            {
                "prompts": {
                    "task": "given",
                    "items": [*given(), {"text": " then", "positive": True}],
                }
            },
            "Prompt 13 has 1 token,",
        ),
        (
            {
                "prompts": {
                    "task": "given",
                    "items": [*given(), {"text": " then" * 300, "positive": True}],
                }
            },
            "reads 256 at once",
        ),
    ],
)
def test_what_cannot_be_searched(task_host: HostModel, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        find_circuit(task_host, spec(**changes))


def same() -> list[dict[str, Any]]:
    one = [{**each, "positive": True} for each in given()[:6]]
    return [*one, *({**each, "positive": False} for each in one)]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"prompts": {"task": "given", "items": same()}}, "the same"),
        ({"prompts": {"task": "given", "items": given()[:7] + given()[:1]}}, "at least 4 of each"),
        ({"prompts": {"task": "given", "items": []}}, "at least 8"),
        ({"prompts": {"task": "greater-than", "templates": ["went"]}}, "templates"),
        ({"prompts": {"task": "nothing"}}, "does not match any of the expected tags"),
        ({"known": "gpt2-ioi", "known_heads": [[0, 1]]}, "give one of them"),
        ({"known_heads": [[0]]}, "at least 2"),
        ({"known_heads": [[-1, 0]]}, "greater than or equal to 0"),
        ({"permutations": 0}, "greater than or equal to 20"),
    ],
)
def test_specs_that_say_nothing(changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        spec(**changes)


def test_published_circuits_have_their_heads() -> None:
    counts = {name: len(set(each.members)) for name, each in PUBLISHED.items()}
    assert counts == {"gpt2-ioi": 26, "gpt2-greater-than": 9, "attn-only-4l-docstring": 6}
    for each in PUBLISHED.values():
        assert all(layer < each.layers and head < each.heads for layer, head in each.members)
