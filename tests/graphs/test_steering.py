"""Features changed in a graph's prompt: what the graph says is exact in its world, and what really
happens is the host's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monosemy.attribution.linearised import FINAL
from monosemy.errors import DataError
from monosemy.graphs.ablation import goal_values
from monosemy.graphs.feature_edits import FeatureEdits, feature_edits
from monosemy.graphs.goals import logit_difference, stream_direction, token_logits
from monosemy.graphs.influence import total_effects
from monosemy.graphs.linear_change import linear_change
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.steering import head_logits, steer_prompt, steered_run
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.models.host import HostModel
from monosemy.specs.inference.graph_steering import GraphSteered, GraphSteering, PlacedEdit
from tests.support.attribution import some_ids, tiny_host_of
from tests.support.graph_coders import SETS, replacement
from tests.support.planted_graphs import AUSTIN, DALLAS, planted_prompt
from tests.support.tiny_models import tiny_model

EXACT = TraceOptions(most_features=None, untraced=0.0, row_mass=1.0)


@pytest.fixture(scope="module")
def planted() -> ReplacedPrompt:
    return planted_prompt()


def edit(
    coder: int, latent: int, position: Any, mode: str = "ablate", by: Any = None
) -> PlacedEdit:
    return PlacedEdit(coder=coder, latent=latent, position=position, mode=mode, strength=by)  # type: ignore[arg-type]


def steered(prompt: ReplacedPrompt, *edits: PlacedEdit, held: Any = "nothing") -> GraphSteered:
    goals = token_logits(prompt, [AUSTIN, DALLAS])
    return steer_prompt(feature_edits(prompt, edits), goals, GraphSteering(held=held))


def token(made: GraphSteered, id: int) -> Any:
    return next(each for each in made.tokens if each.id == id)


def test_the_planted_feature_taken_away(planted: ReplacedPrompt) -> None:
    """By the graph F1_0 comes to -.1 and Austin loses 2.4; the ReLU stops both at 0."""
    made = steered(planted, edit(0, 0, 1))
    (change,) = made.edited
    assert (change.before, change.after, made.edits) == (pytest.approx(1), 0, 1)
    (moved,) = made.features
    assert (moved.coder, moved.position) == (1, 3)
    assert moved.before == pytest.approx(1.1, abs=1e-5) and moved.after == 0
    assert moved.predicted == pytest.approx(-1.2, abs=1e-5)
    austin, dallas = made.goals
    assert austin.predicted == pytest.approx(-2.4 * 6 / 7, abs=1e-5)
    assert austin.after - austin.before == pytest.approx(-2.2 * 6 / 7, abs=1e-5)
    assert dallas.predicted == pytest.approx(2.4 / 7, abs=1e-5)
    assert austin.direct == dallas.direct == 0  # no edge leads from it to a logit
    assert token(made, AUSTIN).goal and made.tokens[0].id == AUSTIN
    before = torch.tensor([0, 0.3, 0, 0, 2.2, 0, 0]).log_softmax(0)
    after = torch.tensor([0, 0.3, 0, 0, 0, 0, 0]).log_softmax(0)
    for name, row in (("probability_before", before), ("probability_after", after)):
        for each in made.tokens:
            assert getattr(each, name) == pytest.approx(float(row[each.id].exp()), abs=1e-6)
    assert made.kl == pytest.approx(float((before.exp() * (before - after)).sum()), abs=1e-6)
    assert token(made, AUSTIN).logit_before == pytest.approx(austin.before, abs=1e-6)


@pytest.mark.parametrize(
    ("mode", "by", "pre", "austin"),
    [
        ("scale", 2.0, 1.2, 2.4),
        ("scale", 0.5, -0.6, -1.2),
        ("clamp", 3.0, 2.4, 4.8),
        ("add", 0.25, 0.3, 0.6),
        ("scale", -1.0, -2.4, -2.2),
    ],
)
def test_what_each_mode_does_to_the_planted_feature(
    planted: ReplacedPrompt, mode: str, by: float, pre: float, austin: float
) -> None:
    made = steered(planted, edit(0, 0, "firing", mode, by))
    assert made.features[0].predicted == pytest.approx(pre, abs=1e-5)
    real = made.goals[0].after - made.goals[0].before
    assert real == pytest.approx(austin * 6 / 7, abs=1e-5)


def test_several_edits_at_once(planted: ReplacedPrompt) -> None:
    """F0_0 twofold feeds F1_0 1.2 more; F1_0 itself is halved, or held at 1, or gets 1 more."""
    twofold = edit(0, 0, 1, "scale", 2.0)
    for mode, by, after in (("scale", 0.5, 1.15), ("clamp", 1.0, 1.0), ("add", 1.0, 3.3)):
        made = steered(planted, twofold, edit(1, 0, 3, mode, by))
        assert max(each.after for each in made.edited if each.coder == 1) == pytest.approx(after)
        goal = made.goals[0]
        change = 2 * (after - 1.1) * 6 / 7
        assert goal.predicted == pytest.approx(change, abs=1e-5)
        assert goal.after - goal.before == pytest.approx(change, abs=1e-5)
        assert all(each.predicted is None for each in made.features)  # switched on elsewhere
    # Where all is held the second is changed from what it was, and the first reaches no logit.
    held = steered(planted, twofold, edit(1, 0, 3, "scale", 0.5), held="all")
    assert held.goals[0].direct == pytest.approx(-1.1 * 6 / 7, abs=1e-5)
    assert held.goals[0].after - held.goals[0].before == pytest.approx(
        held.goals[0].direct, abs=1e-5
    )


def test_a_silent_feature_can_be_switched_on(planted: ReplacedPrompt) -> None:
    made = steered(planted, edit(0, 0, 2, "clamp", 1.0), edit(0, 0, 1))
    on, off = sorted(made.edited, key=lambda each: -each.position)
    assert (on.position, on.before, on.after) == (2, 0, 1)
    assert (off.position, off.after) == (1, 0) and off.before == pytest.approx(1)
    everywhere = steered(planted, edit(1, 0, "every", "clamp", 2.0))
    assert everywhere.edits == 3  # all but the BOS
    assert everywhere.goals[0].predicted == pytest.approx(1.8 * 6 / 7, abs=1e-5)


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        ([edit(2, 0, 1)], "has 2 SAEs"),
        ([edit(0, 9, 1)], "latents 0 to 1"),
        ([edit(0, 0, 4)], "tokens 0 to 3"),
        ([edit(0, 0, 0)], "does not take token 0: .* The first token is taken by none"),
        ([edit(0, 0, 2)], "does not fire at token 2"),
        ([edit(0, 0, 3, "scale", 2.0)], "It fires at 1"),
        ([edit(1, 1, "firing")], "fires at no token"),
        ([edit(0, 0, 1), edit(0, 0, "firing", "scale", 2.0)], "changed twice at token 1"),
    ],
)
def test_what_cannot_be_changed(
    planted: ReplacedPrompt, edits: list[PlacedEdit], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        feature_edits(planted, edits)


Case = tuple[ReplacedPrompt, FeatureEdits]


def changed(which: str, tokenizer: Any, family: str = "llama") -> Case:
    """A random host with three features changed, one of them at all its tokens."""
    host = tiny_host_of(family, tokenizer)
    prompt = read_prompt(replacement(host, which), some_ids(host))
    features = prompt.features
    chosen = [len(features) // 9, len(features) // 2]
    places = [
        tuple(
            int(column[at]) for column in (features.coder_N, features.latent_N, features.position_N)
        )
        for at in chosen
    ]
    edits = [
        edit(*places[0]),
        edit(places[1][0], places[1][1], "firing", "scale", 1.5),
    ]
    return prompt, feature_edits(prompt, edits)


@pytest.mark.parametrize(
    ("which", "family"),
    [
        ("skip", "llama"),
        ("across", "gemma2"),
        *(
            pytest.param(which, family, marks=pytest.mark.campaign)
            for which in SETS
            for family in ("gpt2", "neox-parallel", "qwen3", "gemma3", "olmo2")
        ),
    ],
)
def test_the_graph_says_what_happens_in_its_own_world(
    which: str, family: str, tiny_tokenizer: Any
) -> None:
    """Direct changes are those of the host with all held; changes along all paths are the sums of
    the traced graph's."""
    prompt, edits = changed(which, tiny_tokenizer, family)
    goals = [*token_logits(prompt, [5, 9]), logit_difference(prompt, 3, 4)]
    site = f"blocks.{prompt.layers - 1}.hook_resid_pre"
    goals.append(stream_direction(prompt, site, torch.ones(prompt.host.d_model), 6))
    run = steered_run(edits, goals, "all")
    direct = linear_change(edits, following=False)
    for goal in goals:
        before, after = goal_values(goal, run.values, prompt.layers).tolist()
        assert direct.goal(goal) == pytest.approx(after - before, rel=1e-3, abs=2e-5)
    graph = trace(prompt, goals, EXACT)
    whole, effects = linear_change(edits), total_effects(graph)
    # One of them at a time: what is done to one changes what another brings.
    number = int(edits.groups[0].feature_N[0])
    one = feature_edits(
        prompt,
        [
            edit(
                int(prompt.features.coder_N[number]),
                int(prompt.features.latent_N[number]),
                int(prompt.features.position_N[number]),
            )
        ],
    )
    alone = linear_change(one)
    for place, goal in enumerate(goals):
        assert alone.goal(goal) == pytest.approx(-effects[place, number], rel=1e-3, abs=2e-5)
    assert float(whole.feature_N.abs().max()) > 0


def test_nothing_changed_changes_nothing(tiny_tokenizer: Any) -> None:
    prompt, _ = changed("skip", tiny_tokenizer)
    features = prompt.features
    goals = token_logits(prompt, [5])
    at = len(features) // 3
    place = [int(each[at]) for each in (features.coder_N, features.latent_N, features.position_N)]
    for held in ("nothing", "mlps", "all"):
        wanted = GraphSteering(held=held, features=200)  # type: ignore[arg-type]
        same = steer_prompt(feature_edits(prompt, [edit(*place, "scale", 1.0)]), goals, wanted)
        assert same.goals[0].predicted == same.goals[0].direct == 0
        assert same.goals[0].after == pytest.approx(same.goals[0].before, abs=1e-6)
        assert same.kl == pytest.approx(0, abs=1e-9)
        assert all(abs(each.after - each.before) < 1e-5 for each in same.features)
        gone, naught = (
            steer_prompt(feature_edits(prompt, [each]), goals, wanted)
            for each in (edit(*place), edit(*place, "scale", 0.0))
        )
        assert gone == naught and gone.goals[0].after != gone.goals[0].before


@pytest.mark.parametrize("held", ["nothing", "mlps", "all"])
def test_what_a_change_cannot_reach_has_not_moved(held: str, tiny_tokenizer: Any) -> None:
    """A host in bfloat16 rounds a run otherwise than the reading of its prompt."""
    model = tiny_model("llama", len(tiny_tokenizer), torch.bfloat16)
    host = HostModel.wrap(model, tiny_tokenizer, "llama")
    ids = [*some_ids(host), *some_ids(host)]
    prompt = read_prompt(replacement(host, "plain"), ids)
    features = prompt.features
    last = (features.position_N == prompt.length - 2) & (features.layer_N == 1)
    at = int(last.nonzero()[0])
    one = edit(int(features.coder_N[at]), int(features.latent_N[at]), prompt.length - 2)
    wanted = GraphSteering(held=held, features=200)  # type: ignore[arg-type]
    made = steer_prompt(feature_edits(prompt, [one]), token_logits(prompt, [5]), wanted)
    coders = {coder.number: coder for coder in prompt.model.coders}
    for moved in made.features:
        assert moved.position >= prompt.length - 2, moved
        assert all(site.layer > 1 for site in coders[moved.coder].reads), moved


def test_probabilities_are_those_of_the_hosts_own_head(tiny_tokenizer: Any) -> None:
    """Gemma 2 caps its logits: what is told of probabilities has the cap, logits have not."""
    prompt, edits = changed("plain", tiny_tokenizer, "gemma2")
    run = steered_run(edits, [], "nothing")
    made = head_logits(prompt, run.values[FINAL][:, -1])
    assert torch.allclose(made[0], prompt.logits_V, atol=1e-4)
    ids = torch.tensor([list(prompt.ids_T)])
    assert not torch.allclose(made[1], prompt.logits_V, atol=1e-3)
    plain = prompt.host.logits(ids, torch.ones_like(ids))[0, -1].float()
    assert torch.allclose(made[0], plain, atol=1e-4)
