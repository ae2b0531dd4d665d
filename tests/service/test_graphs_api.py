"""Graphs over REST: listed, shown, paged, drawn, downloaded, deleted by whoever made them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, delete

from monosemy.graphs.graph import NodeKind
from monosemy.graphs.influence import influence
from monosemy.graphs.pruning import prune
from monosemy.graphs.store import graph_of_bytes
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.interchange.attribution_graph_reading import import_graph
from service.database.graph_tables import StoredGraph
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.graph_rows import GRAPH, PROMPT, UPLOADED, add_graph, texas
from tests.support.library_rows import EMBEDDING_WIDTH, Library, add_explanation
from tests.support.planted_groups import planted_groups

pytestmark = pytest.mark.integration

GRAPHS = "/api/v1/graphs"


@pytest.fixture(autouse=True)
def graphs(module_engine: Engine, library: Library) -> Iterator[None]:
    with transaction(module_engine) as session:
        add_graph(session, id=UPLOADED, name="from elsewhere", model="other", uploaded=True)
    with transaction(module_engine) as session:
        session.get_one(Sae, library.sae).provenance = {"weights": {"digest": "0" * 16}}
        add_graph(session, [(library.sae, "an older name")], in_set="tc")
    yield
    with transaction(module_engine) as session:
        session.execute(delete(StoredGraph))
        session.get_one(Sae, library.sae).provenance = {}


def pages(client: TestClient, path: str, **asked: Any) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = client.get(path, params={**asked, **({"cursor": cursor} if cursor else {})})
        assert page.status_code == 200, page.text
        yield from page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return


def test_they_are_listed(client: TestClient, library: Library) -> None:
    items = client.get(GRAPHS).json()["items"]
    assert [each["id"] for each in items] == [str(GRAPH), str(UPLOADED)]
    traced, uploaded = items
    assert traced["saes"][:2] == [library.name, "gone-1"] and traced["set"] == "tc"
    assert traced["run"] == str(GRAPH) and traced["checked"]
    assert uploaded["run"] is None and not uploaded["checked"] and uploaded["saes"] == []
    assert traced["pruned"]["replacement"] <= traced["whole"]["replacement"]
    assert len(list(pages(client, GRAPHS, limit=1))) == 2


def test_they_are_filtered(client: TestClient) -> None:
    for asked, many in (
        ({"model": "other"}, 1),
        ({"set": "tc"}, 1),
        ({"search": "texas CAPITAL"}, 2),
        ({"search": "texas ohio"}, 0),
        ({"search": "100%_"}, 0),
        ({"search": "\x00"}, 0),
    ):
        assert len(client.get(GRAPHS, params=asked).json()["items"]) == many, asked


def test_one_is_shown_by_id_and_by_name(client: TestClient) -> None:
    shown = client.get(f"{GRAPHS}/texas").json()
    assert shown == client.get(f"{GRAPHS}/{GRAPH}").json()
    assert shown["prompt"] == PROMPT and shown["spec"]["prompt"] == PROMPT
    assert shown["served"] == [True, False, False, False]
    assert shown["token_ids"] == list(range(6)) and shown["check"]["goal"] == " Austin"
    assert shown["about"]["pruning"]["kept_nodes"] == shown["nodes"]
    uploaded = client.get(f"{GRAPHS}/{UPLOADED}").json()
    assert uploaded["spec"] is uploaded["forecast"] is uploaded["check"] is None
    assert uploaded["notes"]


def test_pages_of_nodes_are_the_nodes(client: TestClient) -> None:
    shown = client.get(f"{GRAPHS}/texas").json()
    listed = list(pages(client, f"{GRAPHS}/texas/nodes", limit=7))
    assert sorted(each["node"] for each in listed) == list(range(shown["nodes"]))
    through = [each["influence"] for each in listed]
    assert through == sorted(through, reverse=True)
    by_kind = {
        kind.name: len(list(pages(client, f"{GRAPHS}/texas/nodes", kind=kind.name)))
        for kind in NodeKind
    }
    assert sum(by_kind.values()) == len(listed) and by_kind["logit"] == 2


def test_influence_is_the_share_of_the_goals_weight_wherever_it_is_told(
    client: TestClient,
) -> None:
    weights = {g["label"]: g["weight"] for g in client.get(f"{GRAPHS}/texas").json()["goals"]}
    assert sum(weights.values()) < 1
    drawn = client.get(f"{GRAPHS}/texas/drawing").json()
    for each in pages(client, f"{GRAPHS}/texas/nodes", kind="logit"):
        share = weights[each["label"]] / sum(weights.values())
        alone = client.get(f"{GRAPHS}/texas/nodes/{each['node']}").json()
        assert each["influence"] == alone["influence"] == pytest.approx(share)
        assert drawn["influence"][drawn["node"].index(each["node"])] == pytest.approx(share)


def test_nodes_are_filtered_and_called_as_their_features_are(
    client: TestClient, library: Library
) -> None:
    nodes = f"{GRAPHS}/texas/nodes"
    first = list(pages(client, nodes, kind="feature", layer=0))
    assert {each["coder"] for each in first} == {0}
    for each in first[:3]:
        feature = client.get(f"/api/v1/saes/{library.name}/features/{each['latent']}").json()
        assert each["label"] == feature["heading"]["text"]
    other = client.get(nodes, params={"kind": "feature", "layer": 2}).json()["items"]
    assert all(each["label"] == f"2/{each['latent']}" for each in other)
    wanted = first[0]["label"]
    found = list(pages(client, nodes, search=wanted.upper()))
    assert wanted in {each["label"] for each in found} and len(found) < 60
    there = client.get(nodes, params={"search": "TEXAS", "kind": "token"}).json()["items"]
    assert [each["position"] for each in there] == [4]
    assert all(each["position"] == 4 for each in pages(client, nodes, position=4))


def test_one_node_is_as_it_is_listed(client: TestClient) -> None:
    listed = list(pages(client, f"{GRAPHS}/texas/nodes"))
    for each in (listed[0], listed[7], listed[-1]):
        assert client.get(f"{GRAPHS}/texas/nodes/{each['node']}").json() == each


def test_rows_of_edges_add_up_with_their_rest(client: TestClient) -> None:
    data = client.get(f"{GRAPHS}/texas/file", params={"form": "npz"}).content
    graph = graph_of_bytes(data, "sent")
    goal = graph.goals[0]
    edges = list(pages(client, f"{GRAPHS}/texas/nodes/{goal}/edges", limit=9))
    weights = [abs(each["weight"]) for each in edges]
    assert weights == sorted(weights, reverse=True)
    assert {each["target"] for each in edges} == {goal}
    assert all(each["other"] == each["source"] and each["label"] for each in edges)
    row = int(graph.row_of_node[goal])
    off = graph.rows.value[row] - sum(each["weight"] for each in edges) - graph.rows.rest[row]
    assert abs(off) <= 1e-5 * (sum(weights) + graph.rows.rest_mass[row])
    for each in edges:
        other = client.get(f"{GRAPHS}/texas/nodes/{each['other']}").json()
        for name in ("label", "kind", "layer", "branch", "position"):
            assert each[name] == other[name], name
    source = edges[0]["source"]
    out = list(pages(client, f"{GRAPHS}/texas/nodes/{source}/edges", end="out"))
    assert {"source": source, "target": goal, "weight": edges[0]["weight"]}.items() <= next(
        each for each in out if each["target"] == goal
    ).items()


def test_a_drawing_is_the_graph_and_shares_prune_it(client: TestClient, library: Library) -> None:
    shown = client.get(f"{GRAPHS}/texas").json()
    whole = client.get(f"{GRAPHS}/texas/drawing").json()
    assert whole["node"] == list(range(shown["nodes"])) and whole["layers"] == 4
    assert whole["replacement"] == pytest.approx(shown["pruned"]["replacement"], rel=1e-3)
    columns = ("kind", "layer", "position", "coder", "latent", "label", "value", "influence")
    assert {len(whole[name]) for name in columns} == {shown["nodes"]}
    flows = whole["flow"]
    assert flows == sorted(flows, reverse=True) and min(flows) > 0
    assert len(flows) == len(whole["source"]) == len(whole["weight"]) <= whole["edges"]
    assert (whole["of_edges"], whole["edge_share"], whole["edge_chance"]) == (whole["edges"], 1, 1)
    half = client.get(f"{GRAPHS}/texas/drawing", params={"nodes": 0.4, "edges": 0.7}).json()
    assert half["edge_chance"] < 0.7 <= half["edge_share"] < 1
    assert half["edges"] <= half["edge_chance"] * half["of_edges"] + 1e-9
    assert set(half["node"]) < set(whole["node"]) and half["edges"] < whole["edges"]
    assert half["replacement"] <= whole["replacement"]
    for each in (half, whole):
        kept = each["kept"]
        assert kept["influence"] > kept["of_chance"]["high"] and kept["draws"] == 100
    assert half["kept"]["influence"] < whole["kept"]["influence"] < 1
    place = half["node"].index(next(n for n in half["node"] if whole["kind"][n] == "feature"))
    assert half["label"][place] == whole["label"][half["node"][place]]


def test_what_chance_keeps_is_the_mean_share(client: TestClient) -> None:
    graph = texas()
    whole = WholeInfluence.of(graph)
    assert WholeInfluence.of_bytes(whole.to_bytes()).kept(
        graph.nodes.kind, np.ones(len(graph.nodes), bool)
    ).influence == pytest.approx(1)
    pruned = prune(graph, 0.5, 0.98)
    kept = WholeInfluence.of(graph, pruned.kept).kept(
        pruned.graph.nodes.kind, np.ones(len(pruned.kept), bool)
    )
    through, kind = influence(graph).through_N, graph.nodes.kind
    parts = [
        through[kind == each].sum() * (pruned.graph.nodes.kind == each).sum() / (kind == each).sum()
        for each in (NodeKind.feature, NodeKind.error)
    ]
    total = through[np.isin(kind, (NodeKind.feature, NodeKind.error))].sum()
    assert kept.of_chance.value == pytest.approx(sum(parts) / total, rel=0.1)


def test_its_json_is_read_again(client: TestClient) -> None:
    answer = client.get(f"{GRAPHS}/texas/file")
    assert answer.headers["content-disposition"] == 'attachment; filename="texas.json"'
    again = import_graph(answer.json())
    npz = graph_of_bytes(client.get(f"{GRAPHS}/texas/file", params={"form": "npz"}).content, "sent")
    assert again.prompt == PROMPT and again.graph.goal_labels == (" Austin", " Dallas")
    assert influence(again.graph).replacement == pytest.approx(influence(npz).replacement)
    assert np.load(io.BytesIO(client.get(f"{GRAPHS}/texas/file?form=npz").content))


def test_supernodes_are_proposed_of_the_strongest_features(
    client: TestClient, module_engine: Engine
) -> None:
    planted, number = planted_groups(noise=0.05)
    with transaction(module_engine) as session:
        row = add_graph(session, id=uuid.UUID(int=77), name="planted", graph=planted)
        summary = dict(row.summary)
    made = client.get(f"{GRAPHS}/planted/supernodes", params={"features": 500}).json()
    stored = graph_of_bytes(
        client.get(f"{GRAPHS}/planted/file", params={"form": "npz"}).content, "sent"
    )
    assert made["of_features"] == (stored.nodes.kind == NodeKind.feature).sum()
    assert made["features"] == made["of_features"] and made["labelled"] == 0
    called = {place: name for name, place in number.items()}
    for each in made["supernodes"]:
        names = {called[int(stored.nodes.number[node])] for node in each["nodes"]}
        assert len({name[:2] for name in names}) == 1 and each["why"] == "alike"
        assert each["similarity"] > each["least"] >= 0.5 and each["p"] <= 0.05
        assert each["fed_by"] and each["feeds"]
    assert made["supernodes"] and made["edges"], summary
    few = client.get(f"{GRAPHS}/planted/supernodes", params={"features": 2}).json()
    assert few["features"] == 2 < few["of_features"]


def test_supernodes_take_what_explanations_say(
    client: TestClient, library: Library, module_engine: Engine
) -> None:
    """Explanations that were embedded count, of features whose SAE is served."""
    plain = client.get(f"{GRAPHS}/texas/supernodes").json()
    assert plain["labelled"] == 0
    nodes = list(pages(client, f"{GRAPHS}/texas/nodes", kind="feature", layer=0))
    latent, other = (each["latent"] for each in nodes[:2])
    with transaction(module_engine) as session:
        for feature, place in ((latent, 0), (other, 1)):
            one = [float(at == place) for at in range(EMBEDDING_WIDTH)]
            add_explanation(session, library, feature, "it", "It is.", embedding=one, key="own")
    embedded = client.get(f"{GRAPHS}/texas/supernodes").json()
    own = [each for each in nodes if each["latent"] in (latent, other)]
    assert embedded["labelled"] == len(own) >= 2


def test_bad_questions_are_refused_at_their_field(client: TestClient) -> None:
    for path, status, where in (
        ("/none", 404, ""),
        (f"/{uuid.UUID(int=99)}/nodes", 404, ""),
        (f"/{GRAPH}/nodes?kind=neuron", 422, "kind"),
        (f"/{GRAPH}/nodes?layer=x", 422, "layer"),
        (f"/{GRAPH}/nodes?layer=77", 422, "its nodes are in layers 0 to 4, not 77"),
        (f"/{GRAPH}/nodes?position=77", 422, "its tokens are counted 0 to"),
        ("?model=nobody", 404, ""),
        ("?set=nobody", 404, ""),
        (f"/{GRAPH}/nodes?cursor=nonsense", 422, "cursor"),
        (f"/{GRAPH}/nodes?limit=0", 422, "limit"),
        (f"/{GRAPH}/nodes/100000", 404, ""),
        (f"/{GRAPH}/nodes/-1", 422, "node"),
        (f"/{GRAPH}/nodes/100000/edges", 404, ""),
        (f"/{GRAPH}/nodes/-1/edges", 422, "node"),
        (f"/{GRAPH}/nodes/0/edges?end=up", 422, "end"),
        ("/none/supernodes", 404, ""),
        (f"/{GRAPH}/supernodes?features=1", 422, "features"),
        (f"/{GRAPH}/supernodes?features=501", 422, "features"),
        (f"/{GRAPH}/drawing?nodes=0", 422, "nodes"),
        (f"/{GRAPH}/drawing?edges=1.5", 422, "edges"),
        (f"/{GRAPH}/drawing?nodes=nan", 422, "nodes"),
        (f"/{GRAPH}/file?form=pickle", 422, "form"),
        ("?model=a&nonsense=1", 422, "nonsense"),
    ):
        answer = client.get(GRAPHS + path)
        assert answer.status_code == status, answer.text
        assert where in str(answer.json().get("errors", ""))


def test_a_cursor_is_of_its_graph_and_filter(client: TestClient) -> None:
    first = client.get(f"{GRAPHS}/texas/nodes", params={"limit": 3}).json()
    other = client.get(
        f"{GRAPHS}/{UPLOADED}/nodes", params={"limit": 3, "cursor": first["next_cursor"]}
    )
    assert other.status_code == 422


def test_one_is_deleted_once(client: TestClient) -> None:
    assert client.delete(f"{GRAPHS}/texas").status_code == 204
    for answer in (client.get(f"{GRAPHS}/texas"), client.delete(f"{GRAPHS}/texas")):
        assert answer.status_code == 404 and "/api/v1/graphs lists" in answer.json()["detail"]
