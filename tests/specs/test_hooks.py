"""Where an SAE reads and writes: the value object, the specs that name it, and what must not change
because of it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monosemy.errors import SpecError
from monosemy.models.sites import KINDS
from monosemy.specs import SweepRun, TrainRun, parse_spec, parse_stored_spec
from monosemy.specs.hooks import Hook, Hooks
from monosemy.training.terms import stream_terms, training_terms
from monosemy.workspace import fingerprint

MID, MLP, POST = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"
TRANSCODER = {"architecture": "transcoder", "d_sae": 64, "target_site": MLP}

hooks_of = st.builds(
    Hook,
    st.builds(
        lambda layer, kind: f"blocks.{layer}.{kind}", st.integers(0, 40), st.sampled_from(KINDS)
    ),
    st.sampled_from(["host", "chat", "base"]),
)
places = st.lists(hooks_of, min_size=1, max_size=6, unique=True).map(tuple)


@given(places, places, st.integers(1, 99))
def test_hooks_survive_text_and_json(reads: Any, writes: Any, width: int) -> None:
    hooks = Hooks(reads, writes).with_widths(lambda hook: width + hook.depth[0])
    again = Hooks.from_dict(hooks.as_dict())
    assert again == hooks and again.widths == hooks.widths
    assert Hooks.at(map(str, reads), map(str, writes)) == hooks
    for parts, own in ((hooks.read_parts, reads), (hooks.written_parts, writes)):
        assert tuple(parts) == own and next(iter(parts.values())).start == 0
        assert [part.stop - part.start for part in parts.values()] == [
            width + hook.depth[0] for hook in own
        ]
    assert hooks.transcodes == (reads != writes)
    assert set(hooks.places) == {*reads, *writes} and hooks.places[: len(reads)] == reads


@pytest.mark.parametrize(
    "data",
    [
        *(None, [], {}, {"reads": [], "writes": []}, {"reads": [3], "writes": [3]}),
        {"reads": "x", "writes": "x"},
        {"reads": [{"site": MID}], "writes": [{"site": MID, "host": "host"}]},
        {"reads": [{"site": 1, "host": 2}], "writes": [{"site": 1, "host": 2}]},
    ],
)
def test_foreign_json_is_no_hooks(data: Any) -> None:
    with pytest.raises(ValueError):
        Hooks.from_dict(data)


def train(**options: Any) -> TrainRun:
    run = parse_spec({"kind": "train", **options})
    assert isinstance(run, TrainRun)
    return run


def test_the_words_of_a_run() -> None:
    assert train(site=MID).hooks == Hooks.at(MID)
    assert train(site=MID, writes=MLP).hooks == Hooks.at(MID, MLP)
    assert train(reads=[MID, POST]).hooks == Hooks.at([MID, POST])
    assert train(reads=[MID, POST]).site == MID
    both = train(reads=[MID, POST], writes=[MLP, POST])
    assert both.hooks == Hooks.at([MID, POST], [MLP, POST])
    assert parse_spec(both.model_dump(mode="json")) == both
    sweep = parse_spec({"kind": "sweep", "sites": [MID], "writes": MLP, "seeds": [0, 1]})
    assert isinstance(sweep, SweepRun)
    assert [member.hooks for member in sweep.members()] == [Hooks.at(MID, MLP)] * 2


def test_older_words_mean_the_same_and_are_warned_of() -> None:
    with pytest.warns(FutureWarning, match="target_site is deprecated"):
        older = train(site=MID, sae=TRANSCODER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        newer = train(site=MID, writes=MLP, sae={**TRANSCODER, "target_site": None})
        stored = parse_stored_spec(older.model_dump(mode="json"))
    assert older.hooks == newer.hooks == Hooks.at(MID, MLP)
    assert stored == older


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reads": [MID, MID]}, "each once"),
        ({"reads": []}, "at least 1"),
        ({"reads": ["blocks.1.hook_nowhere"]}, "a site as blocks"),
        ({"reads": [3]}, "valid string"),
        ({"reads": [MID], "site": POST}, "not the first of reads"),
        ({"reads": [f"chat:{MID}"]}, "no site of the run's own host model"),
        ({"reads": [MID, f"chat:{MID}"]}, "hosts has others; 'chat' is not known"),
        ({"site": POST, "writes": MLP}, "comes before the site"),
        ({"site": MID, "writes": MLP, "sae": {"architecture": "matching_pursuit"}}, "pursuit"),
        ({"site": MID, "writes": MLP, "sae": {"ista_steps": 2}}, "ista_steps"),
        ({"site": MID, "writes": POST, "sae": TRANSCODER}, "not the same"),
        ({"site": MID, "sae": {"architecture": "transcoder"}}, "give writes"),
    ],
)
def test_what_cannot_be_hooked_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        train(**options)


def test_many_places_need_not_be_in_order() -> None:
    """A cross-layer transcoder writes before its last place is read, but not before its first."""
    reads = [f"blocks.{layer}.hook_resid_mid" for layer in range(4)]
    writes = [f"blocks.{layer}.hook_mlp_out" for layer in range(4)]
    assert train(reads=reads, writes=writes).hooks.direction_fault is None
    with pytest.raises(SpecError, match="comes before"):
        train(reads=reads[1:], writes=writes)


PINNED = {
    "train": ({"kind": "train"}, "ca263a1b7fb1dfd6", "4ee4a081d703311b"),
    "batchtopk": (
        {
            "kind": "train",
            "name": "x",
            "site": "blocks.3.hook_mlp_out",
            "sae": {"architecture": "batchtopk", "d_sae": 64, "k": 4},
            "training": {"tokens": 5000, "seed": 3},
        },
        "06e0e6a9cd0ace9f",
        "0d8d56fdf2cb8a6d",
    ),
    "transcoder": (
        {"kind": "train", "site": MID, "sae": {**TRANSCODER, "k": 4, "skip": True}},
        "07257123c8be294b",
        "6692544ebe594773",
    ),
    "sweep": (
        {"kind": "sweep", "sites": [MID], "saes": [{"d_sae": 64}, TRANSCODER], "seeds": [0, 1]},
        "a1954271b9202ac6",
        None,
    ),
    "import": ({"kind": "import", "source": "hub:a/b:c", "site": MID}, "b638a0feffd1f166", None),
}


@pytest.mark.parametrize("name", sorted(PINNED))
def test_keys_of_what_is_stored_stay(name: str) -> None:
    """Names of notebook folders, digests of submissions and keys of checkpoints hash the dump of a
    spec: these are of specs from before there were hooks, computed then."""
    data, whole, checkpoint = PINNED[name]
    spec = parse_spec(data)
    assert fingerprint(spec.model_dump(mode="json")) == whole
    if checkpoint is not None:
        assert isinstance(spec, TrainRun)
        relevant, shared = training_terms(spec), stream_terms(spec.training)
        assert fingerprint([3, [relevant], shared, "text-1"]) == checkpoint
