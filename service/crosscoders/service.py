"""What is asked of crosscoders alone."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from monosemy.specs import ARCHITECTURES
from monosemy.specs.places import CrosscoderOptions
from service.database.tables import Sae
from service.kit.errors import Conflict

NO_CROSSCODER = "no-crosscoder"


def is_crosscoder(architecture: str) -> bool:
    spec = ARCHITECTURES.get(architecture)
    return spec is not None and issubclass(spec, CrosscoderOptions)


def check_crosscoder(session: Session, sae: uuid.UUID) -> None:
    """``Conflict`` where the SAE of this id is none, so that its latents have no classes."""
    row = session.get(Sae, sae)
    if row is None or not is_crosscoder(row.architecture):
        raise Conflict(
            f"'{row.name if row else sae}' is no crosscoder: its latents have no classes.",
            "Leave out latent_class and genuine.",
            code=NO_CROSSCODER,
            title="The SAE is no crosscoder",
        )
