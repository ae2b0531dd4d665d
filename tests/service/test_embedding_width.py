"""Embeddings of another width: never thrown away unasked, and made anew when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, text
from typer.testing import CliRunner, Result

from monosemy.errors import MonosemyError
from service.app import create_app
from service.cli.main import app
from service.database.embedding_width import check_width, set_width, stored_width
from service.database.migrate import migrate
from service.database.session import make_engine, transaction
from service.database.tables import Explanation
from service.settings import Settings
from tests.reference.stubs import embedder
from tests.support.library_rows import add_explanation, add_library, unit
from tests.support.loopback import loopback_client

pytestmark = pytest.mark.integration

WIDTH = 40


@pytest.fixture
def url(empty_database_url: str) -> str:
    migrate(empty_database_url)
    return empty_database_url


@pytest.fixture
def inference() -> Iterator[str]:
    with embedder(WIDTH) as address:
        yield address


def width_of(url: str) -> int:
    engine = make_engine(url)
    with engine.connect() as connection:
        width = stored_width(connection)
    engine.dispose()
    return width


def embedded(url: str) -> list[int]:
    """Widths of what is stored."""
    engine = make_engine(url)
    with transaction(engine) as session:
        query = select(func.vector_dims(Explanation.embedding)).where(
            Explanation.embedding.is_not(None)
        )
        widths = list(session.scalars(query))
    engine.dispose()
    return widths


def fill(url: str) -> None:
    """Three explanations; two are embedded."""
    engine = make_engine(url)
    with transaction(engine) as session:
        library = add_library(session, "demo", 6)
        add_explanation(session, library, 1, "kings", "about kings", embedding=unit(1))
        add_explanation(session, library, 2, "queens", "about queens", embedding=unit(2))
        add_explanation(session, library, 3, "cats", "about cats", 0.8)
    engine.dispose()


def run(monkeypatch: pytest.MonkeyPatch, url: str, *command: str, **settings: object) -> Result:
    for name, value in {"database_url": url, **settings}.items():
        monkeypatch.setenv(f"MONOSEMY_{name.upper()}", str(value))
    return CliRunner().invoke(app, list(command))


def test_an_empty_database_takes_any_width(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, url, "migrate", embedding_width=WIDTH)
    assert done.exit_code == 0 and f"{WIDTH} numbers from now on" in done.output, done.output
    assert width_of(url) == WIDTH
    again = run(monkeypatch, url, "migrate", embedding_width=WIDTH)
    assert again.exit_code == 0 and "from now on" not in again.output
    engine = make_engine(url)
    with engine.connect() as connection:  # the index is of the new width
        check_width(connection, WIDTH)
        query = "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_explanations_embedding'"
        assert "hnsw" in str(connection.execute(text(query)).scalar_one())
    engine.dispose()


def test_what_is_stored_is_not_lost_unasked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url)
    refused = run(monkeypatch, url, "migrate", embedding_width=WIDTH)
    assert refused.exit_code == 1, refused.output
    message = " ".join(refused.output.split())
    assert "holds 2 embeddings of 384 numbers" in message and "monosemy reembed" in message
    assert width_of(url) == 384 and embedded(url) == [384, 384]
    with pytest.raises(MonosemyError, match="reembed"):
        set_width(url, WIDTH)


def test_readiness_and_search_say_that_widths_differ(url: str, inference: str) -> None:
    fill(url)
    settings = Settings(
        database_url=url, inference_url=inference, redis_url=None, embedding_width=WIDTH
    )
    with loopback_client(create_app(settings)) as client:
        checks = client.get("/api/v1/readyz").json()
    assert "embeddings of 384 numbers" in json.dumps(checks)


def test_all_are_embedded_anew_in_the_new_width(
    url: str, inference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url)
    given = {"embedding_width": WIDTH, "inference_url": inference}
    done = run(monkeypatch, url, "reembed", "--json", **given)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"embedding_width": WIDTH, "embedded": 3}
    assert embedded(url) == [WIDTH] * 3
    settings = Settings(
        database_url=url, inference_url=inference, redis_url=None, embedding_width=WIDTH
    )
    with loopback_client(create_app(settings)) as client:
        hits = client.get("/api/v1/search", params={"q": "cats. about cats"}).json()
    assert hits["mode"] == "hybrid" and hits["items"][0]["index"] == 3
    assert "vector" in hits["items"][0]["matched"]


def test_only_what_is_missing_is_embedded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(url)
    with embedder() as inference:
        given = {"embedding_width": 384, "inference_url": inference}
        done = run(monkeypatch, url, "reembed", "--missing", "--json", **given)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["embedded"] == 1
    assert len(embedded(url)) == 3


def test_another_embedder_than_the_setting_says_changes_nothing(
    url: str, inference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url)
    done = run(monkeypatch, url, "reembed", embedding_width=384, inference_url=inference)
    assert done.exit_code == 2 and f"gives {WIDTH} numbers" in " ".join(done.output.split())
    assert embedded(url) == [384, 384]
    away = run(monkeypatch, url, "reembed", inference_url="http://127.0.0.1:9")
    assert away.exit_code != 0 and embedded(url) == [384, 384]
