"""What the fixture ``trained`` gives."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from service.database.session import transaction
from service.database.tables import Run, Sae
from service.settings import Settings
from tests.support.planted_saes import write_basis_sae

SITE = "blocks.2.hook_resid_post"
HEADS_SITE = "blocks.3.attn.hook_z"


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

    def add_heads(self) -> None:
        """An SAE ``heads`` on the attention outputs of the block that reads what ``sae`` reads."""
        sae = self.sae
        folder, model = self.settings.artifacts / "saes" / "heads", self.spec["model"]
        write_basis_sae(folder, sae.d_in, str(model["name"]), HEADS_SITE)
        with transaction(self.engine) as session:
            session.add(
                Sae(
                    **{"name": "heads", "model_id": sae.model_id, "site": HEADS_SITE},
                    **{"architecture": "topk", "d_in": sae.d_in, "d_sae": 2 * sae.d_in},
                    **{"path": "saes/heads", "config": {"k": 2 * sae.d_in}, "provenance": {}},
                )
            )
