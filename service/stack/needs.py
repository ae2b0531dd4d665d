"""What each part of a stack is told: the settings that it uses, and nothing besides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import SecretStr

from service.settings import STACK_PART, Settings

Kind = Literal["api", "inference", "worker-gpu", "worker-interp", "judge"]

_COMMON = {"home", "log_level", "otel_endpoint"}
_SHARED = {"database_url", "redis_url", "inference_url", "parts_token", "judge_url", "judge_model"}
_SOURCES = {"hub", "folders", "outbound_allow", "require_keys"}
_JUDGE = {name for name in Settings.model_fields if name.startswith("judge_")}
_INFERENCE = {"inference_url", "parts_token", "embedder", "device", "inference_memory_mb"}
_WORKER = {"lease_seconds", "poll_seconds", "embedder", "upload_keep_hours"} | _JUDGE

NEEDS: dict[Kind, frozenset[str]] = {
    # All but the judge's key (the API asks no judge) and the superuser's address.
    "api": frozenset(
        set(Settings.model_fields) - {"judge_api_key", "api_key", "database_admin_url"}
    ),
    "inference": frozenset(_COMMON | _INFERENCE | _SOURCES),
    "worker-gpu": frozenset(_COMMON | _SHARED | _SOURCES | _WORKER),
    "worker-interp": frozenset(_COMMON | _SHARED | _SOURCES | _WORKER),
    "judge": frozenset(),
}
"""Names of settings by kind of part; ``api_key`` is the CLI's alone."""

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
    environment |= {"PYTHONUNBUFFERED": "1", STACK_PART: kind}
    for name in NEEDS[kind]:
        value = values.get(name)
        if value is not None:
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            environment[f"MONOSEMY_{name.upper()}"] = str(plain)
    return environment
