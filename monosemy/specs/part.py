"""What every part of a spec has in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SITE_PATTERN = (
    r"^blocks\.\d+\.(hook_resid_pre|hook_resid_mid|hook_resid_post|hook_attn_out|hook_mlp_out"
    r"|attn\.hook_z|mlp\.hook_post)$"
)

Site = Annotated[str, Field(pattern=SITE_PATTERN)]


class Part(BaseModel):
    """Strict base: unknown keys are errors, docstrings under fields become their descriptions."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)
