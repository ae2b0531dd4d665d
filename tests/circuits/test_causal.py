"""Ablation against hooks by hand, and against a model of which one head does everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monosemy.circuits.causal import Ablation, ReferenceMeans, causal_check, default_sizes
from monosemy.circuits.head_outputs import captured, heads_of, rows_of
from monosemy.data.tasks.examples import Example
from monosemy.data.tasks.indirect_objects import IndirectObjects
from monosemy.models.host import HostModel
from monosemy.specs.circuits import CausalSpec
from tests.support.task_tokenizers import two_digit_tokenizer
from tests.support.tiny_host import make_tiny_host


def prepared(
    host: HostModel, template: bool = True
) -> tuple[Ablation, list[Example], list[Example]]:
    prompts = IndirectObjects(host.tokenizer).prompts(12, seed=2)
    positive, negative = list(prompts.positive), list(prompts.negative)
    if not template:
        positive = [Example(e.text, e.ids, right=e.right, wrong=e.wrong) for e in positive]
    heads = heads_of(host)
    means = ReferenceMeans(heads, 1)
    for batch in captured(host, heads, rows_of(host, negative)):
        means.add(batch, [each.template for each in negative], [True] * len(negative))
    return Ablation(host, heads, means, positive), positive, negative


def z_by_hand(host: HostModel, ids: tuple[int, ...]) -> list[torch.Tensor]:
    """Input of every output projection, [S, width], BOS first."""
    seen: list[torch.Tensor] = []
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
        for layer in host.model.model.layers
    ]
    with torch.no_grad():
        host.model(torch.tensor([(0, *ids)]))
    for hook in hooks:
        hook.remove()
    return seen


def difference_by_hand(
    host: HostModel, example: Example, means: list[torch.Tensor], kept: np.ndarray
) -> float:
    """Heads that are not kept [layers, heads] have their mean z in place of their own."""

    def replace(layer: int):  # type: ignore[no-untyped-def]
        def hook(_, args):  # type: ignore[no-untyped-def]
            z = args[0].clone()
            for head in range(4):
                if not kept[layer, head]:
                    part = slice(8 * head, 8 * head + 8)
                    z[0, 1:, part] = means[layer].expand(z.shape[1], -1)[1:, part]
            return (z,)

        return hook

    hooks = [
        each.self_attn.o_proj.register_forward_pre_hook(replace(layer))
        for layer, each in enumerate(host.model.model.layers)
    ]
    with torch.no_grad():
        logits = host.model(torch.tensor([(0, *example.ids)])).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return float(logits[example.right[0]] - logits[example.wrong[0]])


@pytest.mark.parametrize("template", [True, False])
def test_it_is_what_hooks_by_hand_give(task_host: HostModel, template: bool) -> None:
    ablation, positive, negative = prepared(task_host, template)
    assert ablation.reference == ("token by token" if template else "all tokens")
    z = {each.text: z_by_hand(task_host, each.ids) for each in negative}
    rng = np.random.default_rng(0)
    for share in (0.0, 0.4, 0.8):
        kept = rng.uniform(size=16) < share
        found = ablation.differences(kept)
        for number, example in enumerate(positive):
            if template:
                own = [z[e.text] for e in negative if e.template == example.template]
                means = [torch.stack(each).mean(0) for each in zip(*own, strict=True)]
            else:
                means = [
                    torch.cat([each[layer][1:] for each in z.values()]).mean(0, keepdim=True)
                    for layer in range(4)
                ]
            wanted = difference_by_hand(task_host, example, means, kept.reshape(4, 4))
            assert found[number] == pytest.approx(wanted, abs=1e-4)
    clean = ablation.differences(None)
    assert clean == pytest.approx(ablation.differences(np.ones(16, bool)), abs=1e-5)
    assert not np.allclose(clean, ablation.differences(np.zeros(16, bool)), atol=1e-3)


def test_one_head_does_everything() -> None:
    host = make_tiny_host(two_digit_tokenizer())
    with torch.no_grad():
        for layer, each in enumerate(host.model.model.layers):
            weight = each.self_attn.o_proj.weight
            kept = weight[:, 16:24].clone()
            weight.zero_()
            if layer == 1:
                weight[:, 16:24] = 4 * kept
    ablation, _, _ = prepared(host)
    head = 1 * 4 + 2
    order = [head, *(each for each in range(16) if each != head)]
    spec = CausalSpec(sizes=[1, 4, 16, 40], random_sets=2)
    check = causal_check(ablation, order, spec, seed=0, held_out=True)
    assert [point.heads for point in check.kept] == [1, 4, 16], "there are 16 heads"
    assert check.kept[0].top.value == pytest.approx(check.clean.value, abs=1e-5)
    assert check.removed[0].top.value == pytest.approx(check.none.value, abs=1e-5)
    assert abs(check.clean.value - check.none.value) > 0.01
    assert check.kept[-1].top == check.kept[-1].random, "all heads are all heads"
    for sets in (point.sets for point in check.kept[:2]):
        for each in sets:
            near = [abs(each - end.value) < 1e-5 for end in (check.clean, check.none)]
            assert any(near), "a random set has the head, or has it not"
    again = causal_check(ablation, order, spec, seed=0, held_out=True)
    assert again == check


def test_intervals_are_those_of_prompts(task_host: HostModel) -> None:
    ablation, _, _ = prepared(task_host)
    values = ablation.differences(None)
    check = causal_check(
        ablation, list(range(16)), CausalSpec(sizes=[3], random_sets=1), 0, held_out=False
    )
    error = values.std() / len(values) ** 0.5
    assert check.clean.value == pytest.approx(values.mean())
    assert (check.clean.high - check.clean.low) / 2 == pytest.approx(1.96 * error, rel=0.25)


def test_default_sizes() -> None:
    assert default_sizes(270) == [5, 14, 27, 54, 94, 135, 202]
    assert default_sizes(2) == [1]
