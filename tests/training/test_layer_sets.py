"""One SAE for each layer from one stream: what a sweep over layers makes, asks for and refuses."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from monosemy import stages
from monosemy.data.store import TokenStore
from monosemy.errors import DataError, SpecError, UnknownSite
from monosemy.evals.sets import evaluate_set
from monosemy.hosted_sae import HostedSAE
from monosemy.models.activations import ActivationSource
from monosemy.models.host import HostModel
from monosemy.progress import Reporter
from monosemy.sae_folder import SaeFolder
from monosemy.saes.base import SAE
from monosemy.saes.codes import Codes
from monosemy.specs import EvaluationSpec, SweepRun, TextSpec, TopKSpec, parse_spec
from monosemy.specs.memory import cache_bytes, training_bytes
from monosemy.specs.sets import SetPlace, set_places
from monosemy.workspace import Kind, Workspace

READS, WRITES = "blocks.*.mlp.hook_in", "blocks.*.hook_mlp_out"


def sweep(**more: Any) -> SweepRun:
    training = {"tokens": 600, "batch_tokens": 100, "buffer_tokens": 400, "warmup_steps": 0}
    spec = {
        "kind": "sweep",
        "name": "tc",
        "sites": [READS],
        "writes": WRITES,
        "layers": "0-3",
        "saes": [{"d_sae": 48, "k": 4}],
        "training": {"frozen_decoder_baseline": False, **training},
        **more,
    }
    parsed = parse_spec(spec)
    assert isinstance(parsed, SweepRun)
    return parsed


def test_a_star_is_each_layer() -> None:
    spec = sweep(saes=[{"d_sae": 48, "k": 4}, {"d_sae": 64, "k": 4}], seeds=[0, 1])
    members = spec.members()
    assert [m.site for m in members[::4]] == [f"blocks.{layer}.mlp.hook_in" for layer in range(4)]
    assert all(
        [str(h) for h in m.hooks.writes] == [m.site.replace("mlp.hook_in", "hook_mlp_out")]
        for m in members
    )
    assert len(spec.sets()) == 4, "one for each SAE and seed"
    for places in spec.sets():
        settings = {(members[p].sae.d_sae, members[p].training.seed) for p in places}
        assert len(settings) == 1 and [members[p].hooks.reads[0].depth[0] for p in places] == [
            *range(4)
        ]
    places = set_places(spec, "tc")
    assert places[4] == SetPlace("tc-0", 1, 4) and places[5] == SetPlace("tc-1", 1, 4)
    mixed = sweep(sites=["blocks.1.hook_resid_post", READS], writes=None)
    assert mixed.sets() == [[1, 2, 3, 4]] and set_places(mixed, "x")[0] is None
    assert sweep(layers=[0, 2]).layers == [0, 2]
    assert sweep(layers=2).layers == [2]


def test_layers_stream_unless_asked_to_be_kept() -> None:
    assert not sweep().training.cache_activations
    assert sweep(training={"cache_activations": True}).training.cache_activations
    plain = parse_spec({"kind": "sweep", "sites": ["blocks.1.hook_resid_post"]})
    assert plain.training.cache_activations
    assert "layers" not in plain.model_dump(mode="json")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"layers": None}, "which layers"),
        ({"layers": [2, 1]}, "must rise"),
        ({"layers": "0-3,3"}, "must rise"),
        ({"layers": "0-"}, "layers"),
        ({"layers": [-1]}, "layers"),
        ({"layers": -1}, "layers"),
        ({"layers": True}, "layers"),
        ({"sites": ["blocks.1.mlp.hook_in"]}, "layers are for sites with a"),
        ({"sites": ["blocks.1.mlp.hook_in"], "layers": None}, "writes has a"),
        ({"sites": [READS, "blocks.1.mlp.hook_in"]}, "every one of sites needs one"),
        ({"sites": ["blocks.*.hook_z"]}, "sites"),
        ({"sites": [WRITES], "writes": READS}, "comes before"),
        ({"layers": "0-99", "seeds": [0, 1]}, "too large: at most 100"),
    ],
)
def test_what_does_not_go_together_is_refused(more: dict[str, Any], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        sweep(**more)


class Made(NamedTuple):
    spec: SweepRun
    saes: list[SaeFolder]
    workspace: Workspace
    log: list[tuple[str, dict[str, Any]]]


class Listening(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, dict[str, Any]]] = []

    def log(self, message: str, **data: Any) -> None:
        self.events.append((message, data))


@pytest.fixture(scope="module")
def made(
    tiny_host: HostModel, tiny_text: TextSpec, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    workspace, listening = Workspace(tmp_path_factory.mktemp("set")), Listening()
    spec = sweep(text=tiny_text)
    folders = [workspace.folder(Kind.SAES, f"s{place}") for place in range(4)]
    stages.train_many(
        spec.members(),
        folders,
        spec.training,
        workspace.folder(Kind.RUNS, "r"),
        workspace,
        lambda _: tiny_host,
        listening,
        sets=set_places(spec, "tc"),
    )
    return Made(spec, [SaeFolder(each, workspace) for each in folders], workspace, listening.events)


def test_one_stream_makes_a_set_and_keeps_no_activations(made: Made) -> None:
    assert [each.set for each in made.saes] == [SetPlace("tc", place, 4) for place in range(4)]
    for layer, each in enumerate(made.saes):
        assert each.spec.site == f"blocks.{layer}.mlp.hook_in" and each.sae.transcodes
    assert not list(made.workspace.root_of(Kind.ACTIVATIONS).glob("*/acts.bf16"))
    forecast = dict(made.log)["forecast"]
    assert forecast["cache_mb"] == 0 and forecast.keys() == {
        "memory_mb",
        "cache_mb",
        "checkpoints_mb",
    }


def test_room_is_asked_for_beforehand(
    tiny_host: HostModel, tiny_text: TextSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sweep(text=tiny_text, training={"cache_activations": True, "tokens": 600})
    members, width = spec.members(), 32
    assert cache_bytes(members, 1000, width) == 2 * 1000 * width * 8
    assert cache_bytes(sweep().members(), 1000, width) == 0
    buffer = 4 * 65_536 * width * 8
    assert training_bytes(members, spec.training, width) > buffer

    def train() -> None:
        workspace = Workspace(tmp_path / "w")
        folders = [workspace.folder(Kind.SAES, f"s{place}") for place in range(4)]
        runs = workspace.folder(Kind.RUNS, "r")
        stages.train_many(
            members, folders, spec.training, runs, workspace, lambda _: tiny_host, Reporter()
        )

    monkeypatch.setattr("monosemy.models.memory.machine_bytes", lambda: 10**6)
    with pytest.raises(DataError, match="The training would take"):
        train()
    monkeypatch.undo()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(DataError, match="GB of activations and") as refused:
        train()
    assert "cache_activations=false" in str(refused.value)


def test_a_layer_that_is_not_there_is_named(tiny_host: HostModel, tmp_path: Path) -> None:
    spec, workspace = sweep(layers="2-5"), Workspace(tmp_path)
    with pytest.raises(UnknownSite, match=r"no site 'blocks\.4\.mlp\.hook_in'"):
        stages.train_many(
            spec.members(),
            [tmp_path / str(place) for place in range(4)],
            spec.training,
            tmp_path / "r",
            workspace,
            lambda _: tiny_host,
        )


class Whole(SAE):
    """A coder without latents whose skip is any function: the MLP itself, or nothing."""

    def __init__(self, of: Any) -> None:
        super().__init__(TopKSpec(d_sae=2, k=1), 32, 32)
        self.of = of
        self.requires_grad_(False)

    def encode(self, x_ND: Tensor, budget: int | float | None = None) -> Codes:
        del budget
        return Codes(torch.zeros(len(x_ND), 1, dtype=torch.int64), torch.zeros(len(x_ND), 1))

    def decode(self, codes: Codes, x_ND: Tensor | None = None) -> Tensor:
        del codes
        result: Tensor = self.of(x_ND)
        return result


def _measured(host: HostModel, store: TokenStore, functions: Sequence[Any]) -> dict[str, Any]:
    members = [
        HostedSAE.at(
            host, Whole(each), f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out"
        )
        for layer, each in enumerate(functions)
    ]
    sites = [site for each in members for site in (each.site, each.target)]
    source = ActivationSource(host, store, sites, None)
    spec = EvaluationSpec(tokens=300, reconstruction_tokens=600)
    return evaluate_set(members, source.columns, store, source, spec)


@torch.no_grad()
def test_a_set_that_is_the_mlps_changes_nothing_and_one_of_nothing_is_their_absence(
    tiny_host: HostModel, tiny_store: TokenStore
) -> None:
    mlps = [copy.deepcopy(block.mlp) for block in tiny_host._trunk.blocks]  # free of hooks
    exact = _measured(tiny_host, tiny_store, mlps)
    assert [each["site"] for each in exact["members"]] == [
        f"blocks.{layer}.mlp.hook_in" for layer in range(4)
    ]
    for each in exact["members"]:
        assert each["fvu"] < 1e-9 and abs(each["alone"]["ce_increase"]) < 1e-5
    assert abs(exact["all"]["ce_increase"]) < 1e-5 and exact["all"]["top1_agreement"] == 1
    assert exact["splice_tokens"] == 300 and exact["splice_rows"] > 1
    assert exact["ce_recovered_mean"] is None or abs(exact["ce_recovered_mean"] - 1) < 1e-3

    nothing = _measured(tiny_host, tiny_store, [torch.zeros_like] * 4)
    rows = tiny_store.heldout_rows()
    total, count = 0.0, 0
    zero = {f"blocks.{layer}.hook_mlp_out": torch.zeros_like for layer in range(4)}
    assert nothing["all"]["ce"] > nothing["ce_clean"] or nothing["all"]["kl"] > 0
    # By hand on all held-out rows, where these are few enough to be those that were counted.
    for row in rows:
        batch = tiny_store.batch(rows[rows == row])
        ids, mask = torch.from_numpy(batch.ids_BS), torch.from_numpy(batch.mask_BS)
        real = torch.from_numpy(batch.real_BS)
        counted = real[:, 1:] & real[:, :-1]
        logits = tiny_host.logits(ids, mask, {site: _only(real, zero[site]) for site in zero})
        log = logits[:, :-1][counted].log_softmax(-1)
        total -= float(log.gather(1, ids[:, 1:][counted][:, None]).sum())
        count += int(counted.sum())
    whole = EvaluationSpec(tokens=count, reconstruction_tokens=64)
    members = [
        HostedSAE.at(
            tiny_host,
            Whole(torch.zeros_like),
            f"blocks.{layer}.mlp.hook_in",
            f"blocks.{layer}.hook_mlp_out",
        )
        for layer in range(4)
    ]
    sites = [site for each in members for site in (each.site, each.target)]
    source = ActivationSource(tiny_host, tiny_store, sites, None)
    measured = evaluate_set(members, source.columns, tiny_store, source, whole)
    assert measured["all"]["ce"] == pytest.approx(total / count, rel=1e-4)
    assert measured["splice_tokens"] == count
    low, high = measured["all"]["low"], measured["all"]["high"]
    assert low < measured["all"]["ce_increase"] < high


def _only(real: Tensor, function: Any) -> Any:
    """BOS and padding keep their activations."""
    return lambda acts: torch.where(real[..., None], function(acts), acts)


def test_members_must_fit_together(tiny_host: HostModel, tiny_store: TokenStore) -> None:
    one = HostedSAE.at(
        tiny_host, Whole(torch.zeros_like), "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"
    )
    source = ActivationSource(tiny_host, tiny_store, [one.site, one.target], None)
    for members, match in (([], "without SAEs"), ([one, one], "write the same place")):
        with pytest.raises(DataError, match=match):
            evaluate_set(members, source.columns, tiny_store, source, EvaluationSpec())
