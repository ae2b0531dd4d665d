"""``monosemy doctor``: what a deployment lacks, and what to do about it.

Every check is made, whatever the others say; each says in a sentence what it found and, where
something is wrong, what mends it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import httpx
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from monosemy.errors import JudgeError, MonosemyError
from monosemy.specs import ARCHITECTURES, EXPLAINERS, SCORERS
from monosemy.specs.rest.system import Finding, Findings
from service.database.embedding_width import check_width
from service.database.migrate import current_revision, head_revision
from service.database.session import make_engine
from service.edge.exposure import check_exposure
from service.inference.client import InferenceClient
from service.saes.files import folder_of
from service.settings import Settings
from service.system.checks import ping_redis
from service.version import version

LEAST_DISK, LITTLE_DISK = 2**30, 10 * 2**30
"""Free bytes of the artifact folder below which runs will fail, and may soon."""
MOST_SKEW = 5.0
"""Seconds that two clocks may differ."""
LONG_WAIT = 60.0
"""Seconds after which a run that could start should have been taken."""
POSTGRES = 15
"""Oldest major version that is tested."""


GOOD_SECONDS = 10.0
"""Seconds for which one look of the API's answers every caller."""


def found_by_the_api(settings: Settings) -> Findings:
    """What the API itself sees: whether it can be reached from elsewhere, and what is installed
    where workers run, it cannot say."""
    items = list(_parts(settings, by_api=True))
    return Findings(items=items, checked_at=dt.datetime.now(dt.UTC))


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which a fault explains later ones."""
    yield from _parts(settings)
    yield _guarded("api", lambda: _api(settings))
    yield _training()


def _parts(settings: Settings, by_api: bool = False) -> Iterator[Finding]:
    yield _guarded("exposure", lambda: _exposure(settings))
    yield _guarded("artifacts", lambda: _artifacts(settings))
    yield from _database(settings)
    yield _guarded("redis", lambda: _redis(settings))
    yield _guarded("inference", lambda: _inference(settings))
    yield _guarded("judge", lambda: _judge(settings, by_api))
    yield _guarded("plugins", _plugins)


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except MonosemyError as error:
        return Finding(name, "failed", error.message, error.advice or "")


# -------------------------------------------------------------------- this machine
def _exposure(settings: Settings) -> Finding:
    check_exposure(settings)
    if not settings.require_keys:
        return Finding("exposure", "ok", f"Open mode, on {settings.host} alone.")
    return Finding("exposure", "ok", "Callers need API keys; they are stored under a secret.")


def _artifacts(settings: Settings) -> Finding:
    folder = settings.artifacts
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial_file = folder / f".doctor-{uuid.uuid4().hex}"
        trial_file.write_bytes(b"x")
        trial_file.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(
            "artifacts",
            "failed",
            f"{folder} cannot be written: {error.strerror}.",
            f"Give it to the user that runs this (uid {os.getuid()}), or set MONOSEMY_HOME.",
        )
    message = f"{folder} can be written; {free / 2**30:,.1f} GiB are free."
    if free < LEAST_DISK:
        return Finding("artifacts", "failed", message, "Free some, or runs will fail.")
    if free < LITTLE_DISK:
        return Finding("artifacts", "warning", message, "Activation caches may need more.")
    return Finding("artifacts", "ok", message)


def _plugins() -> Finding:
    outside = [
        f"{registry.noun} {name} ({spec.__module__} {spec.version})"
        for registry in (ARCHITECTURES, EXPLAINERS, SCORERS)
        for name, spec in registry.items()
        if spec.version
    ]
    return Finding("plugins", "ok", f"Loaded: {', '.join(outside) or 'none'}.")


def _training() -> Finding:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        message = (
            f"{' and '.join(missing)} not installed: GPU and inference workers cannot run here."
        )
        return Finding(
            "training", "warning", message, "pip install 'monosemy[train]', if they are to."
        )
    return Finding("training", "ok", "torch and transformers are installed.")


# -------------------------------------------------------------------- the database
def _database(settings: Settings) -> Iterator[Finding]:
    try:
        engine = make_engine(settings.database_url, pool_size=1)
    except (MonosemyError, SQLAlchemyError) as error:
        advice = "Set MONOSEMY_DATABASE_URL to postgresql://user:password@host/database."
        message = getattr(error, "message", "MONOSEMY_DATABASE_URL cannot be read.")
        yield Finding("database", "failed", message, getattr(error, "advice", None) or advice)
        return
    try:
        with engine.connect() as connection:
            checks = (_server, _revision, _extensions, _clocks, _queues)
            yield from (check(connection) for check in checks)
            if current_revision(connection) == head_revision():
                yield _embeddings(connection, settings.embedding_width)
        yield _references(engine, settings)
    except SQLAlchemyError:
        # Its text may hold the password.
        message = "The database does not answer, or not as this version needs it."
        yield Finding(
            "database", "failed", message, "Check MONOSEMY_DATABASE_URL and that it runs."
        )
    finally:
        engine.dispose()


def _server(connection: Connection) -> Finding:
    number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    message = f"PostgreSQL {number // 10_000} answers."
    if number // 10_000 < POSTGRES:
        return Finding("database", "warning", message, f"Upgrade to {POSTGRES} or later.")
    return Finding("database", "ok", message)


def _revision(connection: Connection) -> Finding:
    here, needed = current_revision(connection), head_revision()
    if here == needed:
        return Finding("revision", "ok", f"The tables are at revision {here}.")
    message = f"The tables are at revision {here or 'none'}; this version needs {needed}."
    known = here is None or (here.isdecimal() and needed is not None and here < needed)
    advice = "Run 'monosemy migrate'." if known else "The database is newer: upgrade monosemy."
    return Finding("revision", "failed", message, advice)


def _extensions(connection: Connection) -> Finding:
    rows = connection.execute(text("SELECT extname FROM pg_extension")).scalars()
    missing = sorted({"vector", "pg_trgm"} - set(rows))
    if missing:
        message = f"{' and '.join(missing)} missing: search cannot work."
        advice = "Install pgvector (pgvector/pgvector has it), then run 'monosemy migrate'."
        return Finding("extensions", "failed", message, advice)
    return Finding("extensions", "ok", "pgvector and pg_trgm are there.")


def _embeddings(connection: Connection, wanted: int) -> Finding:
    try:
        check_width(connection, wanted)
    except MonosemyError as error:
        return Finding("embeddings", "failed", error.message, error.advice or "")
    return Finding("embeddings", "ok", f"Explanations are embedded in {wanted} numbers.")


def _clocks(connection: Connection) -> Finding:
    query = "SELECT extract(epoch FROM clock_timestamp()) - :here"
    skew = float(connection.execute(text(query), {"here": time.time()}).scalar_one())
    message = f"This clock and the database's differ by {abs(skew):.1f} s."
    if abs(skew) > MOST_SKEW:
        # Leases are kept in the database's time alone, so nothing breaks but what people read.
        return Finding("clocks", "warning", message, "Times in logs will not match; use NTP.")
    return Finding("clocks", "ok", message)


def _queues(connection: Connection) -> Finding:
    if not connection.execute(text("SELECT to_regclass('queues')")).scalar_one():
        return Finding("queues", "warning", "There are no queues before the tables are current.")
    waiting = connection.execute(
        text(
            "SELECT r.queue, count(*), extract(epoch FROM max(now() - greatest(r.not_before,"
            " coalesce(b.finished_at, r.created_at)))), coalesce(bool_or(q.paused), false),"
            " (SELECT count(*) FROM runs o WHERE o.queue = r.queue AND o.state = 'running'"
            "  AND o.lease_expires_at > now())"
            " FROM runs r LEFT JOIN runs b ON b.id = r.depends_on LEFT JOIN queues q"
            " ON q.name = r.queue WHERE r.state = 'queued' AND r.queue <> 'none'"
            " AND r.not_before <= now() AND (r.depends_on IS NULL OR b.state = 'succeeded')"
            " GROUP BY r.queue ORDER BY r.queue"
        )
    ).all()
    faults, notes = [], []
    for queue, number, age, paused, running in waiting:
        if paused:
            notes.append(f"{queue} is paused with {number} runs waiting")
        elif age > LONG_WAIT and not running:
            faults.append(queue)
            notes.append(
                f"{number} runs wait in {queue}, the oldest for {age:,.0f} s; none goes on"
            )
        else:
            notes.append(f"{number} runs wait in {queue}")
    message = "; ".join(notes) + "." if notes else "Nothing waits."
    if faults:
        names = " and ".join(f"'monosemy worker {queue}'" for queue in faults)
        return Finding("queues", "failed", message, f"Start {names}, or look into its log.")
    if any(row[3] for row in waiting):
        return Finding(
            "queues", "warning", message, "'monosemy queue resume NAME' lets them start."
        )
    return Finding("queues", "ok", message)


def _references(engine: Engine, settings: Settings) -> Finding:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, path FROM saes ORDER BY name")).all()
    missing = [name for name, path in rows if not folder_of(settings.artifacts, path).is_dir()]
    if missing:
        message = (
            f"The files of {len(missing)} of {len(rows)} SAEs are missing: "
            f"{', '.join(missing[:5])}."
        )
        advice = "Is MONOSEMY_HOME the folder that the workers write to? Else restore a backup."
        return Finding("files", "failed", message, advice)
    return Finding("files", "ok", f"The files of all {len(rows)} SAEs are there.")


# -------------------------------------------------------------------- the others
def _redis(settings: Settings) -> Finding:
    ping_redis(settings.redis_url)
    return Finding("redis", "ok", "Redis answers.")


def _inference(settings: Settings) -> Finding:
    client = InferenceClient.of(settings)
    try:
        client.check()
    except MonosemyError as error:
        advice = error.advice or "Start it with 'monosemy inference'."
        message = f"{error.message} Activations, steering and search by meaning need it."
        return Finding("inference", "warning", message, advice)
    finally:
        client.close()
    return Finding("inference", "ok", "The inference server answers.")


def _judge(settings: Settings, by_api: bool) -> Finding:
    """``by_api``: the API of a stack is told no key of the judge's; that one is asked for says
    nothing of the workers, who have it."""
    if not settings.judge_url:
        message = "No judge is configured: features have evidence labels only."
        return Finding("judge", "warning", message, "Set MONOSEMY_JUDGE_URL.")
    from monosemy.interp.judge_test.result import Role
    from monosemy.interp.judging.failures import KeyRefused
    from monosemy.interp.judging.judge import Judge
    from monosemy.specs import JudgeSpec
    from service.judge_tests.by_hand import kept_tests, keys_of

    key = settings.judge_api_key.get_secret_value() if settings.judge_api_key else None

    async def ask() -> tuple[str, dict[Role, str]]:
        async with Judge(str(settings.judge_url), key, settings.judge_model, JudgeSpec()) as judge:
            form = await judge.answer_format()
            return f"The judge '{judge.model}' answers in {form}.", keys_of(judge)

    try:
        message, keys = asyncio.run(ask())
    except KeyRefused as error:
        if by_api and key is None:
            message = (
                f"The judge at {settings.judge_url} answers. It asks for a key, which is for the "
                "workers alone; whether it takes theirs cannot be seen from here: 'monosemy doctor'"
                " on the command line asks with it."
            )
            return Finding("judge", "ok", message)
        return Finding("judge", "failed", error.message, error.advice or "")
    except JudgeError as error:
        return Finding("judge", "failed", error.message, error.advice or "")
    if not (settings.judge_price_input or settings.judge_price_output):
        message = f"{message} Without prices its cost is counted as 0."
    tests = kept_tests(settings, keys).values()
    if not tests:
        untested = "It has not been tested yet: 'monosemy judge check' and the first run do that."
        return Finding("judge", "ok", f"{message} {untested}")
    message = " ".join([message, *map(str, tests)])
    warnings = [test.advice for test in tests if test.advice]
    return Finding("judge", "warning" if warnings else "ok", message, " ".join(warnings))


def _api(settings: Settings) -> Finding:
    try:
        with httpx.Client(trust_env=False, timeout=5.0) as http:
            answer = http.get(f"{settings.url}/healthz")
            api_version = answer.json()["version"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        message = f"No monosemy API answers at {settings.url}."
        return Finding(
            "api", "failed", message, "Start it with 'monosemy serve', or set MONOSEMY_URL."
        )
    if api_version != version():
        message = f"The API is version {api_version}; this is {version()}."
        return Finding("api", "warning", message, "Upgrade the older one.")
    return Finding("api", "ok", f"The API answers, version {api_version}.")
