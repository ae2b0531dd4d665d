"""Latents of a crosscoder by class, and what its evaluation has measured of each, over REST."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.cli.feature_text import place_lines
from service.crosscoders.repository import replace_latents
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.crosscoder_rows import BASE, MEASURED, NORMS, add_crosscoder
from tests.support.library_rows import Library
from tests.support.loopback import typed_client

pytestmark = pytest.mark.integration

FEATURES = "/api/v1/saes/crosscoder/features"
EVERY = list(range(len(NORMS)))


@pytest.fixture(scope="module")
def crosscoder(module_engine: Engine, library: Library) -> Library:
    del library
    with transaction(module_engine) as session:
        return add_crosscoder(session)


@pytest.fixture(scope="module")
def measured(module_engine: Engine, crosscoder: Library) -> Library:
    with transaction(module_engine) as session:
        replace_latents(session, crosscoder.sae, MEASURED)
    return crosscoder


def listed(client: TestClient, **asked: str) -> list[int]:
    page = client.get(FEATURES, params=asked)
    assert page.status_code == 200, page.text
    return [each["index"] for each in page.json()["items"]]


def test_all_is_unknown_before_an_evaluation(client: TestClient, crosscoder: Library) -> None:
    del crosscoder
    assert listed(client, latent_class="unknown") == EVERY
    assert listed(client, latent_class="exclusive") == listed(client, genuine="true") == []
    counts = client.get("/api/v1/saes/crosscoder").json()["latent_classes"]
    assert counts == {"exclusive": 0, "genuine": 0, "weak": 0, "shared": 0, "unknown": len(NORMS)}
    page = client.get(f"{FEATURES}/1").json()
    assert page["latent_scaling"] is None and "only looks so is unknown" in place_lines(page)[-1]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"latent_class": "exclusive"}, [0, 1, 5]),
        ({"genuine": "true"}, [0, 5]),
        ({"genuine": "false"}, [1]),
        ({"latent_class": "exclusive", "genuine": "true", "max_density": "0.005"}, [0, 5]),
        ({"latent_class": "weak"}, [2]),
        ({"latent_class": "weak", "genuine": "true"}, []),
        ({"latent_class": "shared"}, [3]),
        ({"latent_class": "unknown"}, [4, 6, 7]),
    ],
)
def test_features_are_listed_by_class(
    client: TestClient, measured: Library, asked: dict[str, str], wanted: list[int]
) -> None:
    del measured
    assert listed(client, **asked) == wanted


def test_cursors_hold_and_neighbours_are_within_the_filter(
    client: TestClient, measured: Library
) -> None:
    del measured
    one = client.get(FEATURES, params={"latent_class": "exclusive", "limit": 2}).json()
    rest = client.get(
        FEATURES,
        params={"latent_class": "exclusive", "limit": 2, "cursor": one["next_cursor"]},
    )
    assert [each["index"] for each in rest.json()["items"]] == [5]
    other = client.get(FEATURES, params={"latent_class": "weak", "cursor": one["next_cursor"]})
    assert other.status_code == 422
    around = client.get(f"{FEATURES}/1/around", params={"latent_class": "exclusive"}).json()
    assert (around["previous"]["feature"], around["next"]["feature"]) == (0, 5)


def test_counts_and_a_latents_own_figures(client: TestClient, measured: Library) -> None:
    counts = client.get("/api/v1/saes/crosscoder").json()["latent_classes"]
    assert counts == {"exclusive": 3, "genuine": 2, "weak": 1, "shared": 1, "unknown": 3}
    page = client.get(f"{FEATURES}/1").json()
    assert page["latent_scaling"] == {
        "place": BASE,
        "genuine": False,
        "nu_error": 0.4,
        "nu_reconstruction": None,
    }
    assert "only looks so, elsewhere 0.40 in the error" in place_lines(page)[-1]
    del measured

    with typed_client(client) as typed:
        genuine = typed.features.list("crosscoder", latent_class="exclusive", genuine=True)
        assert [each.index for each in genuine] == [0, 5]


def test_what_is_no_crosscoder_and_no_class_is_refused(
    client: TestClient, measured: Library
) -> None:
    del measured
    assert client.get("/api/v1/saes/demo").json()["latent_classes"] is None
    for asked in ({"latent_class": "unknown"}, {"genuine": "false"}):
        answer = client.get("/api/v1/saes/demo/features", params=asked)
        assert answer.status_code == 409 and "is no crosscoder" in answer.json()["detail"]
    for asked in ({"latent_class": "alone"}, {"genuine": "perhaps"}):
        assert client.get(FEATURES, params=asked).status_code == 422


def test_they_go_with_their_sae(module_engine: Engine, measured: Library) -> None:
    with transaction(module_engine) as session:
        session.delete(session.get_one(Sae, measured.sae))
