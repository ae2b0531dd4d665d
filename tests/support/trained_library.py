"""What the fixture ``trained`` gives."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from service.database.session import transaction
from service.database.tables import Run, Sae
from service.settings import Settings

SITE = "blocks.2.hook_resid_post"


@dataclass
class Trained:
    """A tiny SAE that went through train, evaluate and index, by the worker's own code."""

    settings: Settings
    engine: Engine
    pipeline: Run
    spec: dict[str, Any]

    @property
    def sae(self) -> Sae:
        assert self.pipeline.result is not None
        with transaction(self.engine) as session:
            return session.get_one(Sae, uuid.UUID(self.pipeline.result["sae_id"]))
