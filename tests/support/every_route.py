"""Every route of the API, and what is needed to call it; a new route is among them by itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from monosemy.address import PREFIX
from service.edge.origin import READING_METHODS
from service.edge.routing import GuardedRoute
from tests.support.graph_files import smallest_file
from tests.support.hostile import CONFIG, safetensors

SCOPE_OF: dict[tuple[str, str], str | None] = {
    ("PUT", "/explanations/{explanation}/vote"): "read",
    ("POST", "/runs/parse"): "read",
    ("POST", "/saes/{sae}/features/{index}/embed"): "read",
    ("POST", "/inference/activations"): "infer",
    ("POST", "/inference/read"): "infer",
    ("POST", "/inference/tokenize"): "infer",
    ("POST", "/inference/contrast"): "infer",
    ("POST", "/inference/attention"): "infer",
    ("POST", "/inference/steer"): "infer",
    ("POST", "/graphs/{graph}/steer"): "infer",
    ("POST", "/graphs/{graph}/heads"): "infer",
    ("POST", "/graphs/{graph}/score"): "infer",
    ("PATCH", "/queues/{name}"): "admin",
    ("DELETE", "/saes/{sae}"): "admin",
    ("POST", "/saes/{sae}/delete"): "admin",
    ("DELETE", "/judge-tests/{judge_test}"): "admin",
    ("GET", "/audit"): "admin",
    ("GET", "/system/findings"): "admin",
    ("GET", "/settings/audit"): "admin",
    ("POST", "/queues/{name}"): "admin",
    ("POST", "/sessions"): None,
    ("DELETE", "/sessions/current"): "read",
    ("DELETE", "/sessions/{session_id}"): "read",
    ("GET", "/keys"): "admin",
    ("POST", "/keys"): "admin",
    ("DELETE", "/keys/{key}"): "admin",
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/docs"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/embed/saes/{sae}/features/{index}"): None,
    ("GET", "/static/{digest}/{name:path}"): None,
    ("GET", "/favicon.ico"): None,
    ("GET", "/login"): None,
    ("POST", "/login"): None,
    ("POST", "/logout"): "read",
    ("POST", "/settings/keys"): "admin",
    ("GET", "/settings/keys/{key}/revoke"): "admin",
    ("POST", "/settings/keys/{key}/revoke"): "admin",
    ("POST", "/settings/sessions/{session_id}/end"): "read",
}
"""Where it is not ``read`` for GET and ``run`` for the rest; None is for anybody."""

ADDS = {
    ("POST", "/runs"),
    ("POST", "/runs/new"),
    ("POST", "/lists"),
    ("POST", "/saes/uploads"),
    ("POST", "/graphs"),
    ("POST", "/graphs/upload"),
    ("POST", "/saes/{sae}/features/{index}/tags"),
    ("POST", "/saes/{sae}/features/{index}/explanations"),
    ("POST", "/saes/{sae}/features/{index}/scores"),
    ("POST", "/explanations/{explanation}/scores"),
    ("POST", "/explanations/{explanation}/sittings"),
    ("PUT", "/explanations/{explanation}/vote"),
    ("DELETE", "/sessions/current"),
    ("POST", "/logout"),
}
"""What only adds something of the caller's, or ends what the call itself came by; every other call
that writes is for owners."""

_ENTRY = {"sae": "demo", "feature": 3}
_JUDGED = [{"activating": number % 2 == 0, "answer": number % 3 == 0} for number in range(8)]
_TEXT = {"sae": "demo", "text": "the king"}

BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/runs/parse"): {"text": "kind: train"},
    ("POST", "/runs"): {"kind": "train", "name": "once"},
    ("PATCH", "/runs/{run_id}"): {"priority": -1},
    ("POST", "/graphs"): {"prompt": "the king", "saes": ["demo"]},
    ("POST", "/graphs/upload"): smallest_file(),
    ("POST", "/sets"): {"name": "theirs", "saes": ["demo", "beside"]},
    ("POST", "/graphs/{graph}/steer"): {"edits": [{"node": 0}]},
    ("POST", "/graphs/{graph}/heads"): {"target": 0, "token": 1},
    ("POST", "/graphs/{graph}/score"): {"layer": 0, "head": 0, "token": 1, "source": 0},
    ("PATCH", "/queues/{name}"): {"max_running": 0},
    ("POST", "/keys"): {"name": "made"},
    ("POST", "/sessions"): {"key": "mnsy_unknown"},
    ("PATCH", "/lists/{list}"): {"description": "changed"},
    ("POST", "/lists/{list}/entries"): {"entries": [_ENTRY]},
    ("POST", "/lists/{list}/entries/remove"): {"entries": [_ENTRY]},
    ("POST", "/lists/{list}/entries/move"): {"entries": [_ENTRY], "to": 0},
    ("POST", "/saes/{sae}/features/{index}/tags"): {"tags": ["mine"]},
    ("POST", "/saes/{sae}/features/{index}/explanations"): {"text": "Said by a person."},
    ("POST", "/saes/{sae}/features/{index}/scores"): {},
    ("POST", "/saes/{sae}/features/{index}/embed"): {"n": 3},
    ("POST", "/explanations/{explanation}/scores"): {
        "scorer": "detection",
        "source": "elsewhere",
        "judgements": _JUDGED,
    },
    ("POST", "/explanations/{explanation}/sittings"): {"positives": 2, "negatives": 2},
    ("PUT", "/sittings/{sitting}/answers/{number}"): {"answer": True},
    ("PUT", "/explanations/{explanation}/vote"): {"value": 1},
    ("POST", "/inference/activations"): _TEXT,
    ("POST", "/inference/read"): {"saes": [{"sae": "demo"}], "text": "the king"},
    ("POST", "/inference/tokenize"): _TEXT,
    ("POST", "/inference/contrast"): {"sae": "demo", "a": ["the king"], "b": ["the queen"]},
    ("POST", "/inference/attention"): {"sae": "demo", "text": "the king"},
    ("POST", "/inference/steer"): {
        "sae": "demo",
        "prompt": "the king",
        "features": [{"index": 3, "strength": 1.0, "unit": "activation"}],
    },
}
FILES = [
    ("files", ("cfg.json", CONFIG)),
    ("files", ("sae_weights.safetensors", safetensors())),
]
FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/runs/new"): {"text": "kind: train"},
    ("POST", "/sets/new"): {"name": "theirs", "saes": ["demo", "beside"]},
    ("POST", "/runs/{run_id}/priority"): {"priority": "-1"},
    ("POST", "/queues/{name}"): {"paused": "false"},
    ("POST", "/saes/{sae}/delete"): {"name": "not it"},
}
"""What forms of pages send."""
QUERIES = {
    "/labelling": {"sae": "demo"},
    "/search": {"q": "king"},
    "/saes/{sae}/activations.{form}": {"features": "3"},
}
NOWHERE = str(uuid.UUID(int=0))
MISSING: dict[str, str] = {
    "run_id": NOWHERE,
    "digest": "none",
    "kind": "none",
    "name": "none",
    "key": NOWHERE,
    "session_id": NOWHERE,
    "judge_test": "0" * 16,
    "upload": NOWHERE,
    "sae": "none",
    "index": "3",
    "list": "none",
    "tag": "none",
    "form": "parquet",
    "explanation": NOWHERE,
    "comparison": NOWHERE,
    "task": NOWHERE,
    "result": NOWHERE,
    "protocol": "none",
    "concept": NOWHERE,
    "circuit": NOWHERE,
    "graph": NOWHERE,
    "node": "0",
    "set": "none",
    "score": NOWHERE,
    "prompt": "none",
    "sitting": NOWHERE,
    "number": "0",
}
"""A value of every parameter of a path that names nothing."""

Maker = Callable[[], str]


@dataclass(frozen=True)
class Address:
    """A method and the template of a path, without the prefix of the API."""

    method: str
    template: str
    full: str
    route: APIRoute

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.template

    @property
    def needed(self) -> str | None:
        """The scope that it should ask for."""
        return SCOPE_OF.get(self.name, "read" if self.method in READING_METHODS else "run")

    @property
    def writes(self) -> bool:
        return self.method not in READING_METHODS and not hasattr(self.route.endpoint, "reads_only")

    def path(self, values: Mapping[str, str | Maker]) -> str:
        """With ``values``, or what they make, in place of the parameters."""
        filled = self.full
        for parameter in self.route.param_convertors:
            value = values[parameter]
            chosen = value() if callable(value) else value
            filled = re.sub(rf"{{{parameter}(:\w+)?}}", lambda _, chosen=chosen: chosen, filled)
        return filled

    def sent(self) -> dict[str, Any]:
        """What an HTTP client sends along, so that the request validates."""
        if self.name == ("POST", "/saes/uploads"):
            return {"files": FILES}
        body = BODIES.get(self.name)
        if self.name == ("POST", "/lists"):
            body = {"name": f"list {uuid.uuid4().hex}"}
        query = QUERIES.get(self.template, {})
        form = {"data": FORMS[self.name]} if self.name in FORMS else {}
        return {"params": query, **form, **({} if body is None else {"json": body})}


def every_route(app: FastAPI) -> list[Address]:
    """Raises ``AssertionError`` for a route that is not guarded."""
    routes = []
    for context in iter_route_contexts(app.routes):
        route, path = context.original_route, context.path or ""
        assert isinstance(route, GuardedRoute), (
            f"{path} is served by no route of service.edge.routing"
        )
        template = path.removeprefix(PREFIX)
        routes += [Address(method, template, path, route) for method in sorted(route.methods)]
    return routes
