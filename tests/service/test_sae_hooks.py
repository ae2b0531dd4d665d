"""Where an SAE reads and writes, as the API tells it, also of rows that say less."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from monosemy.specs.hooks import Hook, Hooks
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.library_rows import add_library

pytestmark = pytest.mark.integration

MID, MLP, POST = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"


def add(engine: Engine, name: str, config: dict[str, Any]) -> None:
    with transaction(engine) as session:
        library = add_library(session, name, features=2)
        sae = session.get_one(Sae, library.sae)
        sae.site, sae.config = MID, {**sae.config, **config}


def test_hooks_of_rows_old_and_new(client: TestClient, engine: Engine) -> None:
    many = Hooks.at([MID, POST], [MLP, POST]).with_widths(lambda hook: 8 * (1 + hook.depth[0]))
    add(engine, "plain", {"sae": {"architecture": "topk"}})
    add(engine, "older-transcoder", {"sae": {"architecture": "transcoder", "target_site": MLP}})
    add(engine, "many", {"hooks": many.as_dict()})

    def hooks_of(name: str) -> Hooks:
        answer = client.get(f"/api/v1/saes/{name}")
        assert answer.status_code == 200 and answer.json()["site"] == MID
        return Hooks.from_dict(answer.json()["hooks"])

    plain = hooks_of("plain")
    assert plain == Hooks.at(MID) and plain.widths[Hook(MID)] > 0
    older = hooks_of("older-transcoder")
    assert older == Hooks.at(MID, MLP) and Hook(MLP) not in older.widths
    hooks = hooks_of("many")
    assert hooks == many and hooks.widths == many.widths

    def named(site: str) -> set[str]:
        items = client.get("/api/v1/saes", params={"site": site}).json()["items"]
        return {item["name"] for item in items} & {"plain", "older-transcoder", "many"}

    assert named(MID) == {"plain", "older-transcoder", "many"}
    assert named(POST) == {"many"}, "any place that is read counts"
    refused = client.get("/api/v1/saes", params={"site": MLP})
    assert refused.status_code == 422, "no host model here has it"
    assert "has no site" in refused.json()["detail"]
