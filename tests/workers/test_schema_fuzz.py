"""Schemathesis over the whole schema: an API that asks for keys, an inference server behind it.

Every operation is called with data that its schema allows, half of it about what is there, and with
data that it forbids: no answer is a server error, none is other than the schema says, and what is
forbidden is refused.  Without a key nothing is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from service.app import create_app
from service.settings import Settings
from tests.support.campaign import wider
from tests.support.trained_library import Trained
from tests.support.whole_api import Target, whole_api

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FEW = 2
WIDE = int(os.environ.get("MONOSEMY_FUZZ_EXAMPLES", "25"))
"""Calls per operation and mode, in make test and in make test-all; set it to hundreds for more."""
NOBODY = "00000000-0000-0000-0000-000000000000"
LONGEST_URL = 60_000
"""The server hangs up on longer ones before it has read them (test_raw_requests.py has those), so
that a client may see its 400 or a broken connection."""
PUBLIC = {"GET /api/v1/healthz", "GET /api/v1/readyz", "POST /api/v1/sessions"}
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


@pytest.fixture(scope="module")
def target(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with whole_api(trained, tmp_path_factory.mktemp("valkey")) as target:
        yield target


def about_what_is_there(case: Case, there: dict[str, list[Any]], data: st.DataObject) -> None:
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            for name in sorted(part.keys() & there.keys()):
                part[name] = data.draw(st.sampled_from(there[name]))


def length_of_url(case: Case, address: str) -> int:
    sent = case.as_transport_kwargs(base_url=address)
    prepared = requests.Request(sent["method"], sent["url"], params=sent.get("params")).prepare()
    return len(prepared.url or "")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.parametrize("examples", [FEW, *wider(WIDE)])
def test_an_operation(label: str, mode: GenerationMode, examples: int, target: Target) -> None:
    if mode is GenerationMode.NEGATIVE and label not in ASKING:
        return  # it takes nothing that could be wrong

    @settings(
        max_examples=examples,
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
        assume(length_of_url(case, target.address) < LONGEST_URL)
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
