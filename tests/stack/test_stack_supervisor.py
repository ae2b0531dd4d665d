"""The whole stack: real PostgreSQL, Valkey, schema and API; the torch programs are left out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from monosemy.errors import MonosemyError
from service.settings import STACK_PART, Settings
from service.stack import needs
from service.stack.home import close_home
from service.stack.supervisor import Stack

pytestmark = [pytest.mark.integration, pytest.mark.slow]

# Given, so that no inference server (which imports torch) is started.
ELSEWHERE = "http://127.0.0.1:9"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("MONOSEMY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MONOSEMY_INFERENCE_URL", ELSEWHERE)
    home = tmp_path / "home"
    yield home
    # As root, PostgreSQL's data may lie outside the test's folder.
    link = home / "postgres" / "data-elsewhere"
    if link.is_symlink():
        shutil.rmtree(link.readlink().parent)


def small_stack(home: Path, events: list[tuple[str, str]] | None = None) -> Stack:
    reported = [] if events is None else events
    return Stack(
        Settings(home=home, port=0),
        gpu_workers=0,
        interp_workers=0,
        judge=False,
        on_event=lambda name, text: reported.append((name, text)),
    )


def eventually(check: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def health(url: str) -> int:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def test_up_serves_and_down_leaves_nothing(home: Path) -> None:
    events: list[tuple[str, str]] = []
    with small_stack(home, events) as stack:
        written = json.loads((home / "stack.json").read_text())
        assert (home / "stack.json").stat().st_mode & 0o777 == 0o600
        assert written["pid"] == os.getpid()
        assert set(written["pids"]) == {"postgres", "valkey", "api"}
        assert written["inference_url"] == ELSEWHERE
        settings = Settings(home=home)
        assert settings.url == stack.addresses.url
        assert settings.database_url == stack.addresses.database_url
        assert health(stack.addresses.url) == 200
        with psycopg.connect(settings.database_url or "") as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert redis.Redis.from_url(settings.redis_url or "").ping()
        for name in ("postgres", "valkey", "database", "api"):
            assert any(who == name and text.startswith("ready after") for who, text in events)
        with pytest.raises(MonosemyError, match=f"running in .* already .process {os.getpid()}"):
            small_stack(home).start()
        assert health(stack.addresses.url) == 200
    assert not (home / "stack.json").exists()
    assert all(gone(pid) for pid in written["pids"].values())
    stopped = [name for name, text in events if text == "stopped"]
    assert stopped == ["api", "valkey", "postgres"]
    stack.wait()  # returns at once


def test_crashed_parts_come_back_at_their_addresses(home: Path) -> None:
    with small_stack(home) as stack:
        before = stack.pids()
        database = stack.addresses.database_url or ""
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: health(stack.addresses.url) == 200 and stack.pids() != before)
        eventually(lambda: set(stack.pids()) == set(before))
        eventually(lambda: not set(stack.pids().values()) & set(before.values()))
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert redis.Redis.from_url(stack.addresses.redis_url or "").ping()
        eventually(lambda: json.loads((home / "stack.json").read_text())["pids"] == stack.pids())


UP = """
import sys
from pathlib import Path
from service.settings import STACK_PART, Settings
from service.stack import needs
from service.stack.home import close_home
from service.stack.supervisor import Stack
stack = Stack(Settings(home=Path(sys.argv[1]), port=0), 0, 0, judge=False)
stack.start()
print("up", flush=True)
stack.wait()
"""


def test_kill_9_leaves_no_orphans_and_the_next_start_uses_no_stale_address(home: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", UP, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    written = json.loads((home / "stack.json").read_text())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    eventually(lambda: all(gone(pid) for pid in written["pids"].values()))
    stale = Settings(home=home)
    assert stale.database_url == written["database_url"]
    with Stack(stale.model_copy(update={"port": 0}), 0, 0, judge=False) as stack:
        assert set(stack.pids()) == {"postgres", "valkey", "api"}
        assert health(stack.addresses.url) == 200


def test_given_addresses_are_used_as_they_are(home: Path, database_url: str) -> None:
    settings = Settings(home=home, port=0, database_url=database_url, redis_url="redis://x:1/0")
    with Stack(settings, 0, 0, judge=False) as stack:
        assert set(stack.pids()) == {"api"}
        assert stack.addresses.database_url == database_url
    assert not (home / "postgres").exists()


def test_a_failing_program_stops_everything_and_shows_its_log(home: Path) -> None:
    stack = Stack(Settings(home=home, port=0, host="0.0.0.0"), 0, 0, judge=False)
    with pytest.raises(MonosemyError, match="api ended while it started") as caught:
        stack.start()
    assert "without asking for keys" in str(caught.value)
    assert not stack.pids()
    assert not (home / "stack.json").exists()
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()


def test_a_taken_port_starts_nothing(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(home=home, port=taken.getsockname()[1])
        with pytest.raises(MonosemyError, match="MONOSEMY_PORT"):
            Stack(settings, 0, 0, judge=False).start()
    assert not (home / "postgres").exists()


def test_each_start_begins_a_new_log_and_keeps_the_last(home: Path) -> None:
    for _ in range(2):
        with small_stack(home):
            pass
    logs = {path.name for path in (home / "logs").iterdir()}
    assert {"api.log", "api.log.1", "postgres.log", "valkey.log", "valkey.log.1"} <= logs


def environment_of(pid: int) -> dict[str, str]:
    """As the kernel has it of a process that runs."""
    pairs = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_each_part_is_told_what_it_needs_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = {
        "MONOSEMY_SECRET": "the-secret-that-keys-are-stored-under",
        "MONOSEMY_JUDGE_URL": "http://127.0.0.1:9/v1",
        "MONOSEMY_JUDGE_API_KEY": "the-judges-key",
        "MONOSEMY_API_KEY": "the-callers-key",
        "MONOSEMY_DATABASE_ADMIN_URL": "postgresql://boss@/x",
        "HF_TOKEN": "the-hubs-token",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    with small_stack(home) as stack:
        running = {name: environment_of(pid) for name, pid in stack.pids().items()}
        token = stack.addresses.parts_token
        assert token == (home / "parts.secret").read_text().strip()
        database = stack.addresses.database_url or ""
        values = stack._values()
    for name in ("postgres", "valkey"):
        assert not any(each.startswith("MONOSEMY_") for each in running[name])
        assert not set(planted.values()) & set(running[name].values())
    api = running["api"]
    assert api["MONOSEMY_SECRET"] == planted["MONOSEMY_SECRET"]
    assert api["MONOSEMY_PARTS_TOKEN"] == token
    kept_back = set(planted) - {"MONOSEMY_SECRET", "MONOSEMY_JUDGE_URL"}
    assert not kept_back & set(api)
    environments = {kind: needs.environment_of(kind, values) for kind in needs.NEEDS}
    assert {environments[kind]["OMP_WAIT_POLICY"] for kind in environments} == {"passive"}
    for kind in ("inference", "judge"):
        assert database not in environments[kind].values()
        assert not {"MONOSEMY_SECRET", "MONOSEMY_REDIS_URL"} & set(environments[kind])
    for kind in ("worker-gpu", "worker-interp"):
        assert environments[kind]["MONOSEMY_JUDGE_API_KEY"] == planted["MONOSEMY_JUDGE_API_KEY"]
        assert "MONOSEMY_SECRET" not in environments[kind]
        assert environments[kind]["MONOSEMY_DATABASE_URL"] == database
    assert "MONOSEMY_JUDGE_API_KEY" not in environments["inference"]
    assert not any(
        each.startswith("MONOSEMY_") for each in set(environments["judge"]) - {STACK_PART}
    )
    assert {kind for kind in environments if "HF_TOKEN" in environments[kind]} == {
        "inference",
        "worker-gpu",
    }


def test_every_setting_that_is_a_secret_is_guarded() -> None:
    shown = Settings.model_fields.items()
    secret = {name for name, field in shown if "SecretStr" in str(field.annotation)}
    hidden = {name for name, field in shown if not field.repr}
    assert secret | hidden == needs.GUARDED


def test_a_part_reads_nothing_more_from_the_stacks_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    written = {"database_url": "postgresql://a@/b", "judge_api_key": "own", "parts_token": "t"}
    (home / "stack.json").write_text(json.dumps(written))
    settings = Settings(home=home)
    assert settings.database_url == "postgresql://a@/b"
    assert settings.judge_api_key is not None and settings.parts_token is not None
    # The key of the stack's own judge is not sent to another one.
    monkeypatch.setenv("MONOSEMY_JUDGE_URL", "https://judge.example/v1")
    assert Settings(home=home).judge_api_key is None
    monkeypatch.setenv(STACK_PART, "inference")
    assert Settings(home=home).database_url is None
    assert Settings(home=home).parts_token is None


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_home_is_closed_to_others(home: Path) -> None:
    home.mkdir(mode=0o755)
    (home / "artifacts").mkdir(mode=0o755)
    with small_stack(home):
        assert mode(home) == 0o700
        for name in ("stack.json", "parts.secret", "stack.lock"):
            assert mode(home / name) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL another user")
def test_a_home_that_the_database_lives_in_is_closed_but_for_its_way(home: Path) -> None:
    """As root's were before: the data inside belongs to another user, who has to get there."""
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    os.chown(data, 65534, 65534)
    (home / "artifacts").mkdir(mode=0o755)
    (home / "stack.json").write_text("{}")
    close_home(home)
    assert [mode(home), mode(home / "postgres")] == [0o711, 0o711]
    assert [mode(home / "artifacts"), mode(home / "stack.json")] == [0o700, 0o600]
