"""Tasks on a tiny host model: what is put in place is there, perfect dictionaries score 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from monosemy.circuits.supervised.evaluate import TaskSae, evaluate_task
from monosemy.circuits.supervised.nodes import Nodes, Rows, answer, read
from monosemy.circuits.supervised.prompts import labelled_task
from monosemy.errors import DataError, UnknownSite
from monosemy.models.host import HostModel
from monosemy.progress import Reporter, StageProgress
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import TaskRun, TopKSpec
from monosemy.specs.rest.tasks import MethodResult, TaskResult
from monosemy.specs.tasks import AttributedPrompts, TaskPrompt
from tests.support.task_prompts import task_prompts
from tests.support.tiny_host import make_tiny_host, make_tiny_tokenizer

SITE, LAST = "blocks.1.hook_resid_post", "blocks.3.hook_resid_post"


@pytest.fixture(scope="module")
def host() -> HostModel:
    return make_tiny_host(make_tiny_tokenizer())


def prompts() -> AttributedPrompts:
    return AttributedPrompts(items=[TaskPrompt.model_validate(each) for each in task_prompts()])


def perfect_sae() -> SAE:
    """Latents are ``relu`` of each coordinate and of its opposite: it reconstructs all."""
    sae = create(TopKSpec(d_sae=64, k=64), 32)
    basis = torch.cat([torch.eye(32), -torch.eye(32)])
    with torch.no_grad():
        sae.W_dec.copy_(basis)
        sae.W_enc.copy_(basis.T)
    return sae


def spec(**options: Any) -> TaskRun:
    given = {
        "saes": ["perfect"],
        "prompts": prompts().model_dump(),
        "features": [1, 4, 64],
        "test_share": 0.3,
        "resamples": 200,
    }
    return TaskRun.model_validate(given | options)


def method(result: TaskResult, name: str, section: int = 0) -> MethodResult:
    return next(each for each in result.sections[section].methods if each.name == name)


class Stages(Reporter):
    """Keeps what has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, StageProgress] = {}

    def finish(self, progress: StageProgress) -> None:
        self.ended[progress.name] = progress


@pytest.fixture(scope="module")
def whole(host: HostModel) -> tuple[TaskResult, Stages]:
    stages = Stages()
    saes = [
        TaskSae("perfect", "id-1", SITE, perfect_sae(), create(TopKSpec(d_sae=64, k=2), 32)),
        TaskSae("last", "id-2", LAST, perfect_sae()),
    ]
    result = evaluate_task(host, saes, spec(saes=["perfect", "last"]), stages)
    return result, stages


def test_own_activations_change_nothing_and_others_do(host: HostModel) -> None:
    task = labelled_task(prompts(), host.tokenizer)
    rows = Rows(host, task.test, ("name", "end"))
    acts = read(host, rows, Nodes((SITE, LAST), ("name", "end")), lambda _: None)
    clean = answer(host, rows, lambda _: None)
    again = answer(host, rows, lambda _: None, None, acts)
    assert clean.difference == pytest.approx(again.difference, abs=1e-4)

    # The last block's output at the last token is all that the answer depends on.
    turned = list(reversed(range(len(rows))))
    other = {LAST: acts[LAST][turned]}
    moved = answer(host, rows, lambda _: None, None, other)
    assert (moved.first == clean.first[turned]).all()
    twice = answer(host, rows, lambda _: None, [3, 3, 1], {LAST: acts[LAST][[1, 3, 3]]})
    assert twice.first.tolist() == clean.first[[1, 3, 3]].tolist()


def test_a_cache_of_what_stands_before_changes_no_answer(
    host: HostModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = labelled_task(prompts(), host.tokenizer)
    rows = Rows(host, task.test, ("name", "end"))
    acts = read(host, rows, Nodes((SITE, LAST), ("name", "end")), lambda _: None)
    other = {site: each.flip(0) for site, each in acts.items()}
    assert host.abilities.cache
    with_cache = [answer(host, rows, lambda _: None, None, other) for _ in range(2)]
    monkeypatch.setattr(host, "abilities", replace(host.abilities, no_cache="it is not wanted"))
    without = answer(host, rows, lambda _: None, None, other)
    for each in with_cache:  # the second finds what the first has kept
        assert each.difference == pytest.approx(without.difference, abs=1e-4)
        assert (each.first == without.first).all()


def test_rows_of_unequal_length_are_edited_at_their_own_tokens(host: HostModel) -> None:
    items = prompts().items
    longer = [
        each.model_copy(update={"text": f"before sunrise {each.text}"}) if n // 2 % 2 else each
        for n, each in enumerate(items)
    ]
    task = labelled_task(AttributedPrompts(items=longer), host.tokenizer)
    rows = Rows(host, task.test, ("end",))
    assert len({len(ids) for ids in rows.ids}) == 2
    acts = read(host, rows, Nodes((LAST,), ("end",)), lambda _: None)
    clean = answer(host, rows, lambda _: None)
    for row in range(len(rows)):
        alone = answer(host, rows, lambda _: None, [row], {LAST: acts[LAST][[row]]})
        assert alone.difference[0] == pytest.approx(clean.difference[row], abs=1e-4)


def test_a_perfect_dictionary_keeps_the_task_and_leaves_none(
    whole: tuple[TaskResult, Stages],
) -> None:
    result, _ = whole
    assert [section.sites for section in result.sections] == [[SITE], [LAST], [SITE, LAST]]
    for section, name in ((0, "perfect"), (1, "last"), (2, "perfect with last")):
        kept = method(result, name, section).approximation
        assert kept.sufficiency.value == pytest.approx(1, abs=1e-3)
        assert kept.necessity.value == pytest.approx(1, abs=1e-3)
        assert kept.r2 == pytest.approx(1, abs=1e-5)


def test_with_all_of_its_features_a_perfect_dictionary_edits_exactly(
    whole: tuple[TaskResult, Stages],
) -> None:
    result, _ = whole
    for each in method(result, "last", 1).control:
        if each.features == 64:
            assert each.accuracy.value == 1
            assert each.accuracy_changing is not None
            assert each.accuracy_changing.value in (1, None)
            assert each.accuracy_answers is not None
            assert each.accuracy_answers.value in (1, None)
            assert each.distance == pytest.approx(0, abs=1e-4)
        else:
            assert each.edited <= each.features
    by_count = [each.distance for each in method(result, "last", 1).control[:3]]
    assert by_count == sorted(by_count, reverse=True)


def test_pairs_whose_answer_changes_are_told_apart_from_those_where_no_edit_is_right(
    whole: tuple[TaskResult, Stages],
) -> None:
    result, _ = whole
    some = 0
    for section in result.sections:
        for floor in section.floors:
            assert floor.random_changing is not None and floor.untouched.value is not None
            changing = floor.random_changing.n
            some += changing
            assert floor.pairs - changing == pytest.approx(floor.untouched.value * floor.pairs)
            for each in (c for m in section.methods for c in m.control):
                if each.attribute != floor.attribute:
                    continue
                assert each.accuracy.value is not None and each.accuracy_changing is not None
                right, right_changing = each.accuracy.value * floor.pairs, 0.0
                if changing:
                    assert each.accuracy_changing.value is not None
                    right_changing = each.accuracy_changing.value * changing
                # The others add between none and all of them.
                assert -1e-9 <= right - right_changing <= floor.pairs - changing + 1e-9
    assert some


def test_the_likeliest_answer_is_one_of_the_tasks_answers(host: HostModel) -> None:
    task = labelled_task(prompts(), host.tokenizer)
    rows = Rows(host, task.test, ("end",), answers=(3, 5))
    there = {3, 5, *rows.answers_N2.flatten().tolist()}
    assert rows.answers_A.tolist() == sorted(there)
    answers = answer(host, rows, lambda _: None)
    assert set(answers.first_answer.tolist()) <= there
    same = [first for first in answers.first.tolist() if first in there]
    assert same == [
        a for a, f in zip(answers.first_answer, answers.first, strict=True) if f in there
    ]


def test_everything_stands_beside_its_baselines(whole: tuple[TaskResult, Stages]) -> None:
    result, _ = whole
    kinds = [each.kind for each in result.sections[0].methods]
    assert kinds == ["supervised", "supervised", "sae", "frozen", "pca", "random"]
    assert method(result, "perfect, frozen decoder").sae == "id-1"
    assert method(result, "supervised").l0 == 3
    for section in result.sections:
        assert [floor.attribute for floor in section.floors] == ["first", "second", "order"]
        for floor in section.floors:
            assert 0 <= floor.untouched.low <= floor.untouched.high <= 1
        for each in section.methods:
            for control in each.control:
                assert 0 <= control.accuracy.low <= control.accuracy.high <= 1
    names = {each.method for each in result.interpretations}
    assert {"perfect", "perfect, frozen decoder", "last"} < names
    assert result.fit + result.test == 60
    assert TaskResult.model_validate_json(result.model_dump_json()) == result


def test_progress_is_whole(whole: tuple[TaskResult, Stages]) -> None:
    _, stages = whole
    assert list(stages.ended) == ["activations", "answers", "features"]
    for each in stages.ended.values():
        assert each.done == each.total


def test_equal_seeds_give_equal_results(host: HostModel) -> None:
    saes = [TaskSae("perfect", "id-1", SITE, perfect_sae())]
    first, second = (evaluate_task(host, saes, spec()) for _ in range(2))
    assert first.model_copy(update={"seconds": 0.0}) == second.model_copy(update={"seconds": 0.0})


def test_without_saes_there_are_the_baselines(host: HostModel) -> None:
    alone = spec(saes=[], sites=[LAST], model={"name": "tiny"}, positions=["end"], l0=4)
    result = evaluate_task(host, [], alone)
    assert [each.kind for each in result.sections[0].methods] == [
        "supervised",
        "supervised",
        "pca",
        "random",
    ]
    assert method(result, "PCA, 4 components").l0 == 4


def test_what_cannot_be_done_is_told(host: HostModel) -> None:
    with pytest.raises(DataError, match="no position 'verb'"):
        evaluate_task(host, [TaskSae("x", "x", SITE, perfect_sae())], spec(positions=["verb"]))
    with pytest.raises(UnknownSite):
        evaluate_task(host, [], spec(sites=["blocks.9.hook_resid_post"]))
    with pytest.raises(DataError, match="not among the sites"):
        evaluate_task(host, [TaskSae("x", "x", SITE, perfect_sae())], spec(sites=[LAST]))
    long = [each.model_copy(update={"text": "the " * 300 + each.text}) for each in prompts().items]
    with pytest.raises(DataError, match="reads 256 at once"):
        evaluate_task(
            host,
            [TaskSae("x", "x", SITE, perfect_sae())],
            spec(prompts=AttributedPrompts(items=long).model_dump()),
        )
