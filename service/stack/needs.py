"""What each part of a stack is told: the settings that it uses, and nothing besides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import SecretStr

from monosemy.threads import QUIET_WAITS
from service.settings import STACK_PART, Settings

Kind = Literal["api", "inference", "worker-gpu", "worker-interp", "judge"]

GUARDED = frozenset(
    {
        *("secret", "parts_token", "api_key", "judge_api_key"),
        *("database_url", "database_admin_url", "redis_url"),
    }
)
"""Settings that open a door.  All others may be known to every part that is ours."""

_KEYS: dict[Kind, frozenset[str]] = {
    "api": frozenset({"secret", "parts_token", "database_url", "redis_url"}),
    "inference": frozenset({"parts_token"}),
    "worker-gpu": frozenset({"parts_token", "judge_api_key", "database_url", "redis_url"}),
    "worker-interp": frozenset({"parts_token", "judge_api_key", "database_url", "redis_url"}),
}
"""Those that each kind of part has; ``api_key`` is the CLI's alone, the superuser's address that of
``monosemy migrate``."""

NEEDS: dict[Kind, frozenset[str]] = {
    **{kind: frozenset(Settings.model_fields) - GUARDED | keys for kind, keys in _KEYS.items()},
    "judge": frozenset(),
}
"""Names of settings by kind of part.  The judge is no program of ours: it has its own key alone."""

_PLAIN = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"})
_PLAIN_BEGINNINGS = ("LC_", "LD_LIBRARY_", "DYLD_", "OMP_", "MALLOC_", "GGML_")
_HUB_TOKENS = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN"})


def bare_environment() -> dict[str, str]:
    """For programs that are not ours: where things are and which language, no setting."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PLAIN or name.startswith(_PLAIN_BEGINNINGS)
    }


def environment_of(kind: Kind, values: Mapping[str, Any]) -> dict[str, str]:
    """This process's own without its settings, and of ``values`` (settings by name) what a part of
    this kind needs.

    A token of the hub goes only to those that load models; the judge gets a bare environment.
    """
    if kind == "judge":
        environment = bare_environment()
    else:
        loads = kind in ("inference", "worker-gpu")
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("MONOSEMY_") and (loads or name not in _HUB_TOKENS)
        }
        # Programs of ours read further switches, which are no settings and no secrets.
        environment |= {
            name: value
            for name, value in os.environ.items()
            if name.startswith("MONOSEMY_")
            and name.removeprefix("MONOSEMY_").lower() not in Settings.model_fields
        }
    # The judge's threads too, which import nothing of ours.
    if not any(name in environment for name in QUIET_WAITS):
        environment |= QUIET_WAITS
    environment |= {"PYTHONUNBUFFERED": "1", STACK_PART: kind}
    for name in NEEDS[kind]:
        value = values.get(name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            environment[f"MONOSEMY_{name.upper()}"] = str(plain)
    return environment
