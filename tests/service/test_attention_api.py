"""The survey of attention heads over REST: heads, features by head and family, and when there is
none to show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.specs.hooks import Hooks
from monosemy.specs.rest.attention import SurveyedFeature
from service.database.attention_tables import FeatureSurvey
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.attention_rows import WEIGHTS, standing_at, surveyed
from tests.support.library_rows import Library
from tests.support.loopback import typed_client

pytestmark = pytest.mark.integration

SURVEY, FEATURES = "/api/v1/saes/demo/attention", "/api/v1/saes/demo/features"


@pytest.fixture
def found(module_engine: Engine, library: Library) -> Iterator[list[SurveyedFeature]]:
    with surveyed(module_engine, library) as features:
        yield features


def test_it_is_shown(client: TestClient, found: list[SurveyedFeature]) -> None:
    survey = client.get(SURVEY).json()
    assert (survey["sae"], survey["features"], len(survey["heads"])) == ("demo", len(found), 3)
    assert sum(each["owned"] for each in survey["heads"]) == len(found)
    assert sum(survey["families"].values()) == len(found)
    for head in survey["heads"]:
        shares = [each["share"] for each in head["features"]]
        assert len(shares) == 10 and shares == sorted(shares, reverse=True)
        assert sum(head["families"].values()) == head["owned"]
    one = client.get(f"{FEATURES}/{found[0].index}/attention").json()
    assert SurveyedFeature.model_validate(one) == found[0]


@pytest.mark.parametrize("family", [None, "induction", "none"])
@pytest.mark.parametrize("head", [None, 0, 2])
def test_features_are_listed_by_head_and_family(
    client: TestClient, found: list[SurveyedFeature], head: int | None, family: str | None
) -> None:
    wanted = [
        each.index for each in found if head in (None, each.head) and family in (None, each.family)
    ]
    asked = {
        name: value for name, value in (("head", head), ("family", family)) if value is not None
    }
    page = client.get(FEATURES, params={**asked, "limit": 200}).json()
    listed = [each["index"] for each in page["items"]]
    if asked:
        assert listed == wanted
    else:
        assert len(listed) == 60  # silent ones too
    # Page by page, and in columns, alike.
    got, cursor = [], None
    while True:
        params = {**asked, "limit": 7, **({"cursor": cursor} if cursor else {})}
        page = client.get(FEATURES, params=params).json()
        got += [each["index"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert got == listed


@pytest.mark.parametrize("asked", ["head=-1", "head=x", "family=cats", "heads=1"])
def test_filters_that_cannot_be_are_refused(client: TestClient, asked: str) -> None:
    assert client.get(f"{FEATURES}?{asked}").status_code == 422


def test_the_client_gives_it(client: TestClient, found: list[SurveyedFeature]) -> None:
    with typed_client(client) as monosemy:
        assert monosemy.saes.attention("demo").draws == 99
        assert monosemy.features.attention("demo", found[3].index) == found[3]
        listed = monosemy.features.list("demo", head=1, family="local")
        assert {each.index for each in listed} == {
            each.index for each in found if (each.head, each.family) == (1, "local")
        }


def test_there_is_none(client: TestClient, library: Library) -> None:
    for answer in (client.get(SURVEY), client.get(f"{FEATURES}/3/attention")):
        assert answer.status_code == 409
        problem = answer.json()
        assert problem["type"].endswith("no-attention-survey"), problem
        assert "monosemy heads demo" in problem["detail"]
    assert client.get("/api/v1/saes/nothing/attention").status_code == 404
    for asked in ({"head": 0}, {"family": "local"}):
        for path in (FEATURES, "/api/v1/saes/demo/columns", f"{FEATURES}/3/around"):
            answer = client.get(path, params=asked)
            assert answer.status_code == 409, path
            assert answer.json()["type"].endswith("no-attention-survey")


def test_a_head_that_there_is_not_is_told_with_those_there_are(
    client: TestClient, found: list[SurveyedFeature]
) -> None:
    for path in (FEATURES, "/api/v1/saes/demo/columns", f"{FEATURES}/3/around"):
        answer = client.get(path, params={"head": 99})
        assert answer.status_code == 422, path
        assert answer.json()["errors"] == [
            {"path": "head", "message": "there are heads 0-2, not 99"}
        ]


def test_a_feature_that_never_fired_is_not_in_it(
    client: TestClient, found: list[SurveyedFeature]
) -> None:
    silent = next(index for index in range(60) if index not in {each.index for each in found})
    answer = client.get(f"{FEATURES}/{silent}/attention")
    assert answer.status_code == 404 and "fire" in answer.json()["detail"]


def test_a_survey_of_other_weights_is_refused(
    client: TestClient, module_engine: Engine, library: Library, found: list[SurveyedFeature]
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        before = sae.provenance
        sae.provenance = {**before, "weights": {"digest": "f" * 16, "parts": {}}}
    try:
        for answer in (client.get(SURVEY), client.get(f"{FEATURES}/{found[0].index}/attention")):
            assert answer.status_code == 409
            assert answer.json()["type"].endswith("attention-of-other-weights")
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = {
                **before,
                "weights": {"digest": WEIGHTS, "parts": {}},
            }
        assert client.get(SURVEY).status_code == 200
    finally:
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).provenance = before


@pytest.mark.parametrize("index", [None, {"text_id": "another"}])
def test_a_survey_of_another_index_is_refused(
    client: TestClient,
    module_engine: Engine,
    library: Library,
    found: list[SurveyedFeature],
    index: dict[str, str] | None,
) -> None:
    with transaction(module_engine) as session:
        sae = session.get_one(Sae, library.sae)
        before, sae.index = sae.index, {**(sae.index or {}), **index} if index else None
    try:
        for answer in (client.get(SURVEY), client.get(f"{FEATURES}/{found[0].index}/attention")):
            assert answer.status_code == 409
            assert answer.json()["type"].endswith("attention-of-other-text")
    finally:
        with transaction(module_engine) as session:
            session.get_one(Sae, library.sae).index = before


def test_only_an_sae_of_heads_is_surveyed(
    client: TestClient, module_engine: Engine, library: Library
) -> None:
    spec = {"kind": "attention", "sae": "demo"}
    refused = client.post("/api/v1/runs", json=spec)
    assert refused.status_code == 422, refused.text
    (error,) = refused.json()["errors"]
    assert error["loc"][-1] == "sae" if "loc" in error else "sae" in str(error)
    assert "an SAE at attn.hook_z is needed" in refused.text
    with standing_at(module_engine, library):
        assert client.post("/api/v1/runs", json=spec).status_code == 201
        with transaction(module_engine) as session:  # a transcoder from there
            row = session.get_one(Sae, library.sae)
            hooks = Hooks.at(row.site, "blocks.2.hook_mlp_out")
            row.config = {**row.config, "hooks": hooks.as_dict()}
        refused = client.post("/api/v1/runs", json=spec)
        assert refused.status_code == 422 and "writes blocks.2.hook_mlp_out" in refused.text


def test_it_goes_with_its_parts(
    module_engine: Engine, library: Library, found: list[SurveyedFeature]
) -> None:
    with transaction(module_engine) as session:
        assert session.query(FeatureSurvey).count() == len(found)
    with surveyed(module_engine, library) as again:
        assert len(again) == len(found)
    with transaction(module_engine) as session:
        assert session.query(FeatureSurvey).count() == 0
