"""Uploads as the API shows them."""

from __future__ import annotations

import datetime as dt
import uuid

from pydantic import Field

from monosemy.specs.described import Described


class UploadedFile(Described):
    name: str
    """Relative to the upload."""
    bytes: int


class Upload(Described):
    """An SAE folder that an import can take in."""

    id: uuid.UUID
    source: str = Field(examples=["upload:7c6bd7d2-7b87-4f2f-8c3b-0f6ff6e1b9f4"])
    """The `source` of a run of `kind: import`; `upload:ID:FOLDER` names a folder inside."""
    files: list[UploadedFile]
    bytes: int
    """All files together, unpacked."""
    expires_at: dt.datetime
    """It is removed then, unless an import that names it is still to come."""
