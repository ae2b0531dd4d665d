"""Sets by ``monosemy set``, REST and the client, against the served API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import Engine, update
from typer.testing import CliRunner

import monosemy
from monosemy.client import NotFound
from monosemy.formats.load import open_sae
from monosemy.formats.opened import Wanted
from monosemy.formats.saelens import save_sae
from monosemy.specs.hooks import Hooks
from service.cli import sets
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.graph_coders import random_coder
from tests.support.library_rows import add_library

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


def call(*arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert ended.exit_code == code, ended.output
    return ended.output


@pytest.fixture(scope="module", autouse=True)
def stored(module_engine: Engine) -> None:
    """Layers 2, 0 and 1 of one set in that order, one layer of another, and a broken note."""
    with transaction(module_engine) as session:
        first = add_library(session, "tc-0", features=2)
        model = session.get_one(Sae, first.sae).model_id
        for layer, name in ((2, "tc-0"), (0, "tc-1"), (1, "tc-2"), (0, "lone"), (3, "broken")):
            sae = session.get_one(
                Sae, (first if name == "tc-0" else add_library(session, name, features=2)).sae
            )
            site, writes = f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out"
            of: Any = {"name": "tc", "place": layer, "size": 3}
            of = {"lone": {"name": "other", "place": 0, "size": 2}, "broken": "tc"}.get(name, of)
            sae.model_id, sae.site = model, site
            sae.config = {**sae.config, "hooks": Hooks.at(site, writes).as_dict(), "set": of}


def test_sets_are_listed_and_shown_by_layer(served: str) -> None:
    with monosemy.Client(served) as client:
        sets = {each.name: each for each in client.sets.list()}
        assert sets.keys() == {"tc", "other"}
        whole, part = sets["tc"], sets["other"]
        assert (whole.reads, whole.writes) == ("blocks.*.mlp.hook_in", "blocks.*.hook_mlp_out")
        assert whole.layers == [0, 1, 2] and part.layers == [0]
        assert not whole.complete, "the host model has a fourth layer"
        assert not part.complete, "it was trained with two"
        shown = client.sets.get(whole)
        assert [sae.name for sae in shown.saes] == ["tc-1", "tc-2", "tc-0"]
        assert [sae.set.place for sae in shown.saes if sae.set] == [0, 1, 2]
        model = whole.model.name
        assert len(list(client.sets.list(model=model))) == 2
        with pytest.raises(NotFound, match="There is no host model 'nobody'"):
            list(client.sets.list(model="nobody"))
        assert client.saes.get("broken").set is None
        with pytest.raises(NotFound, match="no set 'none'"):
            client.sets.get("none")


def test_the_command_lists_and_shows_them() -> None:
    listed = call("set", "list")
    assert "tc" in listed and "blocks.*.mlp.hook_in" in listed and "0-2 (not all)" in listed
    shown = call("set", "show", "tc")
    assert shown.index("blocks.0") < shown.index("blocks.1") < shown.index("blocks.2")
    names = [sae["name"] for sae in json.loads(call("set", "show", "tc", "--json"))["saes"]]
    assert names == ["tc-1", "tc-2", "tc-0"]
    assert "monosemy set list" in call("set", "show", "none", code=4)


def test_a_set_goes_out_as_circuit_tracer_reads_it(
    environment: Path, tmp_path: Path, module_engine: Engine
) -> None:
    out = tmp_path / "out"
    assert "not on this machine" in call("set", "export", "tc", str(out), code=1)
    coders = [random_coder(6, 6, skip=True, seed=layer) for layer in range(3)]
    for layer, name in enumerate(("tc-1", "tc-2", "tc-0")):
        path = json.loads(call("sae", "show", name, "--json"))["path"]
        hooks = Hooks.at(f"blocks.{layer}.mlp.hook_in", f"blocks.{layer}.hook_mlp_out")
        folder = environment / "artifacts" / path
        save_sae(coders[layer], folder, {"model_name": "m"}, {"hooks": hooks.as_dict()})
    told = " ".join(call("set", "export", "tc", str(out)).split())
    assert "holds TopK" in told and "takes the weights for ReLU" in told
    x_ND = torch.randn(5, 6)
    for layer, coder in enumerate(coders):
        torch.testing.assert_close(open_sae(out, Wanted(layer)).sae(x_ND), coder(x_ND))
    assert "there already" in call("set", "export", "tc", str(out), code=1)
    with transaction(module_engine) as session:
        session.execute(update(Sae).values(architecture="relu"))
    told = " ".join(call("set", "export", "tc", str(tmp_path / "relu")).split())
    assert "circuit-tracer reads the folder" in told and "TopK" not in told


def test_the_command_submits_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    part = {"ce_increase": 0.25, "low": 0.2, "high": 0.3, "kl": 0.1, "top1_agreement": 0.5, "ce": 3}
    member = {"site": "blocks.0.mlp.hook_in", "fvu": 0.5, "l0": 4.0, "dead_share": 0.1}
    metrics = {
        "members": [{**member, "alone": part}],
        "all": part,
        "mean_ablation": {**part, "ce_increase": 2.5},
        "ce_clean": 2.75,
        "splice_tokens": 4096,
        "splice_rows": 33,
    }

    def follow(spec: dict[str, Any], path: str, show: Any, as_json: bool) -> None:
        assert path == "/runs/{run}" and not as_json
        sent.append(spec)
        show({"result": {"metrics": metrics}})

    monkeypatch.setattr(sets, "run_and_show", follow)
    printed = call("set", "evaluate", "tc", "--tokens", "99")
    assert sent[0]["kind"] == "evaluate_set" and len(sent[0]["saes"]) == 3
    assert sent[0]["evaluation"] == {"tokens": 99}
    assert "0.2000 to 0.3000" in printed and "mean ablation" in printed and "2.5000" in printed
    assert "4,096 tokens in 33 rows" in printed and "2.7500" in printed


def test_sets_are_made_and_deleted_and_saes_stay(served: str) -> None:
    """The last of this file: it changes what is stored."""
    assert "other: deleted; its SAEs stay." in call("set", "delete", "other")
    assert "is of the set 'tc'" in call("set", "new", "pair", "lone", "tc-2", code=1)
    assert "pair: 2 SAEs, layers 0, 3" in call("set", "new", "pair", "broken", "lone")
    with monosemy.Client(served) as client:
        assert [each.name for each in client.sets.get("pair").saes] == ["lone", "broken"]
        client.sets.delete("pair")
        assert client.saes.get("lone").set is None
        made = client.sets.create("pair", [client.saes.get("lone"), "broken"])
        assert [each.set.place for each in made.saes if each.set] == [0, 1]
