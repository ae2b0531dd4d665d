"""``monosemy graph``, against the served API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete
from typer.testing import CliRunner

from monosemy.graphs.store import read_graph
from monosemy.specs.inference.graph_heads import GraphHeads, GraphScore
from monosemy.specs.inference.graph_steering import GraphSteerCall, GraphSteered
from service.cli import following
from service.cli.main import app
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.inference.client import InferenceClient
from tests.support.graph_files import smallest_file
from tests.support.graph_rows import (
    PARAPHRASED,
    PROMPT,
    add_graph,
    add_graphs,
    add_paraphrases,
    add_steerable,
    heads_answer,
    score_answer,
    steered,
)
from tests.support.library_rows import Library
from tests.support.planted_groups import planted_groups

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("environment")]


@pytest.fixture(scope="module", autouse=True)
def stored(module_engine: Engine) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_graphs(session)
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph))


WIDE = {"COLUMNS": "200"}


def call(*arguments: str, code: int = 0) -> str:
    """Results, which go to standard output; of a command that fails what it says anywhere."""
    ended = CliRunner().invoke(app, list(arguments), env=WIDE)
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 else ended.output


def test_graphs_are_listed_and_shown() -> None:
    listed = call("graph", "list")
    assert "texas" in listed and "uploaded" in listed and "from elsewhere" in listed
    assert "from elsewhere" not in call("graph", "list", "--search", "capital", "--model", "host")
    shown = call("graph", "show", "texas")
    whole = json.loads(call("graph", "show", "texas", "--json"))
    assert PROMPT in shown and f"{whole['pruned']['replacement']:.3f}" in shown
    assert "0.80 (0.60 to 1.00)" in shown and "random" in shown
    assert f"{whole['traced']} features were traced" in " ".join(shown.split())
    other = call("graph", "show", "from elsewhere")
    assert "not checked by ablation" in other and "3 links name nodes" in other
    assert "monosemy graph list" in call("graph", "show", "nothing", code=4)


def test_nodes_and_edges_are_listed() -> None:
    listed = call("graph", "nodes", "texas", "--kind", "feature", "--limit", "3")
    first = json.loads(call("graph", "nodes", "texas", "--kind", "feature", "--json"))["items"][0]
    assert first["label"] in listed and f"{first['influence']:.4f}" in listed
    assert "4  Texas" in call("graph", "nodes", "texas", "--search", "texas")
    edges = call("graph", "edges", "texas", str(first["node"]))
    out = json.loads(call("graph", "edges", "texas", str(first["node"]), "--end", "out", "--json"))
    assert "weight" in edges and {each["source"] for each in out["items"]} == {first["node"]}
    assert "There is no node" in call("graph", "edges", "texas", "99999", code=4)


def test_edges_say_which_node_is_at_their_other_end() -> None:
    """Each by its layer and token; of an error with two edges, what both of them hold."""
    whole = json.loads(call("graph", "show", "texas", "--json"))
    told = []
    for node in range(whole["nodes"]):
        items = json.loads(call("graph", "edges", "texas", str(node), "--json"))["items"]
        twice = len({each["other"] for each in items}) < len(items)
        if not items or twice in told:
            continue
        told.append(twice)
        ended = CliRunner().invoke(app, ["graph", "edges", "texas", str(node)], env=WIDE)
        assert ("merged into it from pruned features" in ended.output) == twice
        lines = [line.split("│")[1:-1] for line in ended.stdout.splitlines() if "│" in line]
        assert [[cell.strip() for cell in line] for line in lines] == [
            [
                str(each["other"]),
                each["kind"],
                "" if each["layer"] < 0 else str(each["layer"]),
                f"{at} {whole['tokens'][at]}" if (at := each["position"]) >= 0 else "",
                each["label"].strip(),
                f"{each['weight']:+.4g}",
            ]
            for each in items
        ]
    assert sorted(told) == [False, True]
    call("graph", "nodes", "texas", "--kind", "neuron", code=2)


def test_what_graphs_share_is_shown(stored: None, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        add_paraphrases(session)
    names = [f"paraphrase-{place}" for place in (1, 2, 3)]
    shown = call("graph", "common", *names)
    made = json.loads(call("graph", "common", "--run", str(PARAPHRASED), "--json"))
    assert made["n"] == 3 and f"3 graphs overlap by {made['overlap']['within']:.2f}" in shown
    assert f"{made['stable']} of them beyond chance" in " ".join(shown.split())
    first = made["units"][0]
    assert f"{first['share']['value']:.2%}" in shown and first["label"] in shown
    beside = call("graph", "common", *names[:2], "--against", names[2], "--align", "token")
    assert "with 1 graph of other prompts" in " ".join(beside.split())
    held = json.loads(
        call("graph", "common", *names[:2], "--against", names[2], "--align", "token", "--json")
    )
    unit = next(each for each in held["units"] if each["kind"] == "feature")
    assert "graphs against" in beside and "graphs against" not in shown
    assert f"{unit['against_graphs']} of 1" in beside
    if unit["difference"] is not None:
        assert f"{unit['difference']['value']:+.2%}" in beside
    ends = [held["units"][held["edges"][0][end]] for end in ("source", "target")]
    assert all(f"{e['layer']}/{e['latent']}" in beside for e in ends if e["kind"] == "feature")
    least = min(each["chance"]["q"] for each in held["units"] if each["chance"] is not None)
    assert (f"least q of those listed is {least:.2g}" in beside) == (held["stable"] == 0)
    assert "Two prompts say little" in " ".join(beside.split()) and "say little" not in shown
    listed = call("graph", "list", "--run", str(PARAPHRASED))
    assert all(name in listed for name in names) and "texas" not in listed
    assert "it takes 2 to 50" in call("graph", "common", names[0], code=2)
    assert "other SAEs" in " ".join(call("graph", "common", names[0], "texas", code=1).split())
    for name in names:
        call("graph", "delete", name)


def test_prompts_come_from_a_file_of_lines(tmp_path: Path) -> None:
    both = call("graph", "trace", "a b", "--prompts", str(tmp_path / "p.txt"), code=2)
    assert "either a prompt or --prompts" in " ".join(both.split())
    assert "either a prompt or --prompts" in " ".join(call("graph", "trace", code=2).split())
    missing = call("graph", "trace", "--prompts", str(tmp_path / "p.txt"), "--set", "tc", code=2)
    assert "No such file" in " ".join(missing.split())


def test_supernodes_are_proposed(stored: None, module_engine: Engine) -> None:
    with transaction(module_engine) as session:
        add_graph(session, id=uuid.uuid4(), name="planted", graph=planted_groups(noise=0.05)[0])
    output = call("graph", "supernodes", "planted", "--features", "500")
    made = json.loads(call("graph", "supernodes", "planted", "--features", "500", "--json"))
    first = made["supernodes"][0]
    assert first["name"] in output and f"{first['similarity']:.2f}" in output
    assert ", ".join(map(str, first["nodes"])) in output and "39 shuffled graphs" in output
    call("graph", "supernodes", "planted", "--features", "1", code=2)
    call("graph", "supernodes", "nothing", code=4)
    call("graph", "delete", "planted")


def test_features_are_changed(
    monkeypatch: pytest.MonkeyPatch, module_engine: Engine, library: Library
) -> None:
    """What is asked for is REST's; the inference server's answer is made up."""
    with transaction(module_engine) as session:
        add_steerable(session, library.sae, library.name)
    calls: list[GraphSteerCall] = []

    def answer(_self: InferenceClient, call: GraphSteerCall) -> GraphSteered:
        calls.append(call)
        return GraphSteered.model_validate(steered())

    monkeypatch.setattr(InferenceClient, "steer_graph", answer)
    edits = (
        "--ablate",
        "0",
        "--scale",
        "1=2",
        "--clamp",
        "demo/3@4=1.5",
        "--add",
        "demo/5@every=-1",
    )
    shown = call("graph", "steer", "steerable", *edits, "--held", "mlps")
    edits = [(e.mode, e.strength, e.position) for e in calls[0].edits]
    assert edits[1:] == [
        ("scale", 2, edits[1][2]),
        ("clamp", 1.5, 4),
        ("add", -1, "every"),
    ]
    assert calls[0].held == "mlps" and edits[0][0] == "ablate"
    for words in ("Austin", "-2.250", "-2.500", "-0.500", "50.00%", "0.2500 nats", "demo/7"):
        assert words in shown, words
    printed = call("graph", "steer", "steerable", "--ablate", "0", "--json")
    assert json.loads(printed)["goals"][0]["predicted"] == -2.5
    assert "has nodes 0 to" in call("graph", "steer", "steerable", "--ablate", "99999", code=2)
    for wrong in (
        (),
        ("--ablate", "x"),
        ("--ablate", "1@soon"),
        ("--scale", "1"),
        ("--scale", "1=much"),
        ("--clamp", "demo/=1"),
        ("--held", "some", "--ablate", "0"),
    ):
        call("graph", "steer", "steerable", *wrong, code=2)


def test_attention_behind_a_graph_is_told(
    monkeypatch: pytest.MonkeyPatch, module_engine: Engine, library: Library
) -> None:
    """The inference server's answers are made up."""
    heads, score = heads_answer(), score_answer(0, 1, 0, 3)
    monkeypatch.setattr(InferenceClient, "graph_heads", lambda *_: GraphHeads.model_validate(heads))
    monkeypatch.setattr(InferenceClient, "graph_score", lambda *_: GraphScore.model_validate(score))
    shown = call("graph", "heads", "steerable", "0", "--token", "0")
    for words in ("target is +0.7500", "+0.5000", "-0.2500", "+1.0000"):
        assert words in shown, words
    assert json.loads(call("graph", "heads", "steerable", "0", "--token", "0", "--json")) == heads
    shown = call("graph", "score", "steerable", "1", "0", "4", "2")
    for words in ("62.5%", "demo/3", "decoder bias", "+1.500", "other"):
        assert words in shown, words
    call("graph", "heads", "steerable", "0", code=2)
    call("graph", "heads", "steerable", "0", "1", "--token", "2", code=2)
    assert "has nodes 0 to" in call("graph", "heads", "steerable", "99999", "0", code=2)


def test_one_goes_out_and_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "texas.json"
    assert "Wrote" in call("graph", "export", "texas", str(file))
    assert json.loads(file.read_text())["metadata"]["slug"] == "texas"
    written = file.read_bytes()
    assert "there already" in call("graph", "export", "from elsewhere", str(file), code=1)
    assert file.read_bytes() == written
    assert "Took in texas-2" in call("graph", "import", str(file))
    arrays = tmp_path / "texas.npz"
    call("graph", "export", "texas", str(arrays), "--form", "npz")
    assert read_graph(arrays).goal_labels == (" Austin", " Dallas")
    call("graph", "delete", "texas-2")
    document = smallest_file()
    document["links"][1]["weight"] = "heavy"
    file.write_text(json.dumps(document))
    wrong = "links.1: The link from '0_1_1' to '2_7_1': weight is no number.\n"
    assert wrong == call("graph", "import", str(file), code=2)
    call("graph", "import", str(tmp_path / "nothing.json"), code=1)


def test_trace_submits_a_run_and_shows_its_graph(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[dict[str, Any]] = []

    def followed(client: Any, run: str, as_json: bool) -> None:
        submitted.append(client.get(f"/runs/{run}")["spec"])
        with transaction(module_engine) as session:
            name = f"graph {len(submitted)}"
            add_graph(session, [(library.sae, library.name)], id=uuid.UUID(run), name=name)

    monkeypatch.setattr(following, "follow", followed)
    options = ("--features", "9", "--nodes", "0.5", "--no-check", "--name", "mine")
    shown = call(
        "graph", "trace", PROMPT, "--sae", "demo", "--token", " a", "--than", " b", *options
    )
    assert "graph 1: " in shown and "demo" in shown
    call("graph", "trace", PROMPT, "--sae", "demo", "--token", " a", "--token", " b")
    first, second = submitted
    assert first["goals"] == {"of": "difference", "token": " a", "other": " b"}
    assert first["trace"]["features"] == 9 and first["pruning"]["nodes"] == 0.5
    assert (first["check"], first["name"], first["saes"]) == (None, "mine", ["demo"])
    assert second["goals"] == {"of": "tokens", "tokens": [" a", " b"]} and second["check"]
    assert "set" in call("graph", "trace", PROMPT, code=2)
    assert "--than" in call("graph", "trace", PROMPT, "--than", " b", "--set", "tc", code=2)
    assert "no set 'tc'" in call("graph", "trace", PROMPT, "--set", "tc", code=2)


def test_a_trace_of_several_prompts_lists_its_graphs_alone(
    module_engine: Engine, library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def followed(_client: Any, run: str, _as_json: bool) -> None:
        with transaction(module_engine) as session:
            for place in range(2):
                own = {"run": uuid.UUID(run), "place": place, "prompts": 2}
                add_graph(session, id=uuid.uuid4(), name=f"of this run {place}", **own)

    monkeypatch.setattr(following, "follow", followed)
    (prompts := tmp_path / "prompts").write_text("One way\n\nAnother way\n")
    listed = call("graph", "trace", "--prompts", str(prompts), "--sae", "demo")
    assert "of this run 0" in listed and "of this run 1" in listed
    assert "texas" in call("graph", "list") and "texas" not in listed


@pytest.mark.parametrize(
    "option", [("--task", "greater-than"), ("--count", "8"), ("--template", "went")]
)
def test_options_of_pairs_that_are_made_do_not_go_with_pairs_that_are_given(
    tmp_path: Path, option: tuple[str, str]
) -> None:
    (pairs := tmp_path / "pairs.jsonl").write_text("")
    refused = call("feature-circuit", "demo", "--pairs", str(pairs), *option, code=2)
    assert option[0] in refused and "not --pairs" in " ".join(refused.split())
