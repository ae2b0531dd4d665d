"""What docker-compose.yml says, as far as a YAML reader can tell: no engine is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = CONFIG["services"]
SECRETS = {
    "POSTGRES_PASSWORD": {"postgres", "migrate"},
    "POSTGRES_SERVICE_PASSWORD": {"migrate", "api", "gpu-worker", "interp-worker"},
    "REDIS_PASSWORD": {"redis", "api", "gpu-worker", "interp-worker"},
    "MONOSEMY_SECRET": {"api"},
    "MONOSEMY_PARTS_TOKEN": {"api", "gpu-worker", "interp-worker", "inference"},
    "MONOSEMY_JUDGE_API_KEY": {"gpu-worker", "interp-worker"},
    "LOCAL_JUDGE_KEY": {"judge", "gpu-worker", "interp-worker"},
}
"""Who is told each secret."""


@pytest.mark.parametrize("secret", SECRETS)
def test_each_secret_is_told_to_those_who_need_it_alone(secret: str) -> None:
    named = re.compile(rf"\$\{{{secret}\b")
    secrets_of = {
        name
        for name, service in SERVICES.items()
        if named.search(f"{service.get('environment')} {service.get('command')}")
    }
    assert secrets_of == SECRETS[secret]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_closed(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "privileged" not in service
    assert set(service.get("cap_add", [])) <= {
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "SETGID",
        "SETUID",
    }
    assert ("ports" in service) is (name == "api")


def test_networks_hold_apart_who_has_no_business_with_another() -> None:
    on = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert on["postgres"] == on["redis"] == on["migrate"] == {"data"}
    assert on["judge"] == {"judge"}
    assert "data" not in on["inference"] and "judge" not in on["api"]
    networks = CONFIG["networks"]
    assert {name for name in networks if not (networks[name] or {}).get("internal")} == {"outside"}


def test_images_have_exact_tags() -> None:
    for name in ("postgres", "redis"):
        assert re.search(r":\d+\.\d+\.\d+-\w+\}$", SERVICES[name]["image"])
    assert re.search(r"^FROM python:\d+\.\d+\.\d+-", (ROOT / "Dockerfile").read_text(), re.M)


def test_every_mandatory_variable_is_in_the_example() -> None:
    wanted = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert wanted == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))
