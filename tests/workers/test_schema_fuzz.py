"""Schemathesis over the whole schema: an API that asks for keys, an inference server behind it.

Every operation is called with data that its schema allows, half of it about what is there, and with
data that it forbids: no answer is a server error, none is other than the schema says, and what is
forbidden is refused.  Without a key nothing is told.
"""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from sqlalchemy import Engine
from trained_library import Trained

from service.app import create_app
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.session import transaction
from service.database.tables import Explanation, Sae
from service.keys.service import create_key
from service.settings import Settings
from service.stack.valkey import EmbeddedValkey
from workers.inference import create_app as create_inference

pytestmark = [pytest.mark.integration, pytest.mark.slow]

EXAMPLES = int(os.environ.get("MONOSEMY_FUZZ_EXAMPLES", "20"))
"""Calls per operation and mode; set it to hundreds for a campaign."""
NOBODY = "00000000-0000-0000-0000-000000000000"
SECRET = "a-secret-of-thirty-two-characters"
PUBLIC = {"GET /api/v1/healthz", "GET /api/v1/readyz"}
UNCHECKED = [
    # What a schema cannot say (a cursor, two fields that must agree) is refused all the same.
    positive_data_acceptance,
    # A test of its own, below: here every call carries the key.
    ignored_auth,
]

_DOCUMENT = create_app(Settings(home=Path("/nowhere"))).openapi()
for _path in _DOCUMENT["paths"].values():
    for _operation in _path.values():
        _operation.pop("security", None)
OPERATIONS = {
    each.ok().label: each.ok()
    for each in schemathesis.openapi.from_dict(_DOCUMENT).get_all_operations()
}
ASKING = {
    label
    for label, operation in OPERATIONS.items()
    if operation.body or any(True for _ in operation.iter_parameters())
}
"""Those that take parameters or a body."""


@dataclass(frozen=True)
class Target:
    """A server, a key of every scope for it, and what there is, by the parameters that name it."""

    address: str
    key: str
    there: dict[str, list[Any]]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Address of ``app`` on a server of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def explained(engine: Engine, sae: uuid.UUID) -> list[str]:
    """Ids of explanations that may be looked at, voted on and deleted."""
    rows = [
        Explanation(
            sae_id=sae,
            feature=feature,
            explainer="default",
            key=f"k{feature}",
            text="Words for kings.",
            label="kings",
            judge="judge",
            provenance={},
        )
        for feature in range(60)
    ]
    with transaction(engine) as session:
        session.add_all(rows)
        session.flush()
        return [str(row.id) for row in rows]


def compared(engine: Engine, sae: uuid.UUID) -> str:
    """Id of a comparison with a second SAE."""
    with transaction(engine) as session:
        first = session.get_one(Sae, sae)
        columns = {column.name: getattr(first, column.name) for column in Sae.__table__.columns}
        other = Sae(**{**columns, "id": uuid.uuid4(), "name": "another"})
        session.add(other)
        session.flush()
        made = Comparison(
            id=uuid.uuid4(), sae_a=sae, sae_b=other.id, by="decoder", method="mutual", summary={}
        )
        session.add(made)
        session.flush()
        session.add_all(
            FeatureLink(
                comparison_id=made.id, feature_a=i, feature_b=i, value=1 / (i + 1), matched=True
            )
            for i in range(64)
        )
        return str(made.id)


@pytest.fixture(scope="module")
def target(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with transaction(trained.engine) as session:
        key = create_key(session, "fuzz", ["read", "run", "infer", "admin"], SECRET)
    there = {
        "run_id": [str(trained.pipeline.id)],
        "sae": [trained.sae.name, str(trained.sae.id)],
        "index": list(range(64)),
        "explanation": explained(trained.engine, trained.sae.id),
        "name": ["gpu", "interp"],
        "comparison": [compared(trained.engine, trained.sae.id)],
    }
    with (
        EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as valkey,
        served(create_inference(trained.settings)) as inference,
    ):
        asked = {
            "redis_url": valkey.url,
            "inference_url": inference,
            "require_keys": True,
            "secret": SecretStr(SECRET),
            "log_level": "ERROR",
        }
        with served(create_app(trained.settings.model_copy(update=asked))) as address:
            yield Target(address, key, there)


def about_what_is_there(case: Case, there: dict[str, list[Any]], data: st.DataObject) -> None:
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            for name in sorted(part.keys() & there.keys()):
                part[name] = data.draw(st.sampled_from(there[name]))


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_an_operation(label: str, mode: GenerationMode, target: Target) -> None:
    if mode is GenerationMode.NEGATIVE and label not in ASKING:
        return  # it takes nothing that could be wrong

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(
        case=OPERATIONS[label].as_strategy(generation_mode=mode), real=st.booleans(), data=st.data()
    )
    def calls(case: Case, real: bool, data: st.DataObject) -> None:
        if real and mode is GenerationMode.POSITIVE:
            about_what_is_there(case, target.there, data)
        answer = case.call(base_url=target.address, headers=target.headers, timeout=20)
        case.validate_response(answer, excluded_checks=UNCHECKED)

    calls()


@pytest.mark.parametrize("label", sorted(OPERATIONS.keys() - PUBLIC))
def test_nothing_is_told_without_a_key(label: str, target: Target) -> None:
    operation = OPERATIONS[label]
    there = {name: values[0] for name, values in target.there.items()}
    named = re.findall(r"{(\w+)}", operation.path)
    path = operation.path.format(**{name: there.get(name, NOBODY) for name in named})
    address = target.address + path
    for headers in ({}, {"Authorization": f"Bearer {target.key[:-1]}"}, {"X-API-Key": "mnsy_"}):
        answer = httpx.request(operation.method, address, headers=headers, json={})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"]
