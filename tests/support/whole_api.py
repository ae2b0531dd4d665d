"""The whole API, served: keys asked for, a real inference server behind it, rows to ask about."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine

from service.app import create_app
from service.database.comparison_tables import Comparison, FeatureLink
from service.database.session import transaction
from service.database.tables import Explanation, Sae
from service.stack.valkey import EmbeddedValkey
from tests.support.keys import fresh_key
from tests.support.served import served
from tests.support.trained_library import Trained
from workers.inference import create_app as create_inference

SECRET = "a-secret-of-thirty-two-characters"


@dataclass(frozen=True)
class Target:
    """A server, a key of every scope for it, and what there is, by the parameters that name it."""

    address: str
    key: str
    there: dict[str, list[Any]]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


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


@contextmanager
def whole_api(trained: Trained, folder: Path) -> Iterator[Target]:
    """Both servers and a Valkey, over what ``trained`` has; ``folder`` is the Valkey's."""
    with transaction(trained.engine) as session:
        key = fresh_key(session, "all scopes", ["read", "run", "infer", "admin"], SECRET)
    there = {
        "run_id": [str(trained.pipeline.id)],
        "sae": [trained.sae.name, str(trained.sae.id)],
        "index": list(range(64)),
        "explanation": explained(trained.engine, trained.sae.id),
        "name": ["gpu", "interp"],
        "comparison": [compared(trained.engine, trained.sae.id)],
    }
    with (
        EmbeddedValkey(folder) as valkey,
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
