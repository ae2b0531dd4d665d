"""A home that an older version filled, brought up: nothing is lost, and no judge is asked again.

``fill_home.py`` made the fixture with the older version's own code.
"""

from __future__ import annotations

import json
import re
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, delete, select, text

from monosemy.index.reader import IndexReader
from monosemy.progress import SILENT
from monosemy.specs.readings import current_words
from monosemy.workspace import Workspace
from service.app import create_app
from service.backup.backup import restore
from service.database.migrate import downgrade, is_current, migrate
from service.database.session import make_engine, transaction
from service.database.tables import Explanation, Run, Sae
from service.settings import Settings
from tests.reference.stubs import embedder
from tests.support import run_acts as acts
from tests.support.fixtures_database import create_database, drop_database, with_database
from tests.support.loopback import loopback_client
from tests.support.stub_server import StubServer
from tests.support.worker_process import resumed_steps
from workers.gpu import GpuRuns
from workers.interp import InterpRuns
from workers.worker import Worker

pytestmark = pytest.mark.integration

API = "/api/v1"
HOME = Path(__file__).with_name("home-e56f54f.tar.xz")
GONE = "/report.ranks is gone"
"""It was null in every answer."""
PERCENTILE = re.compile(r"/report\.scorers\.\w+\.series\.\w+\.percentiles\[")
"""Each is a value that was observed since, as ``tests/interp`` holds; they lay between two."""
LEADS = re.compile(r"^/search\?\S.*\.items\[\d+\]\.(explanation|score)\b")
"""A hit shows the explanation that leads and its score, whoever scored; it was the best one by
detection alone."""
HEADING = re.compile(r"/(links|matches)\.items\[\d+\](\.[ab])?\.label")
"""Where a feature is called by its heading now: an explanation heads it only if a score clears its
baseline, as ``tests/interp`` and ``tests/service`` hold."""


@dataclass
class Upgraded:
    settings: Settings
    engine: Engine
    client: TestClient
    filled: dict[str, Any]
    judge: StubServer
    """Answers nothing."""

    def submit(self, spec: dict[str, Any]) -> Run:
        """Submits a run and works until nothing is left to do."""
        answer = self.client.post(f"{API}/runs", json=spec)
        assert answer.status_code < 300, answer.text
        self.work()
        return acts.load(self.engine, uuid.UUID(answer.json()["id"]))

    def work(self) -> None:
        for queue, runs in (("gpu", GpuRuns), ("interp", InterpRuns)):
            execute = runs(self.settings, self.engine)
            while Worker(queue, self.settings, execute, self.engine)._take_one():
                pass

    def questions(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM judge_calls")).scalar_one())


@pytest.fixture(scope="module")
def upgraded(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(HOME) as packed:
        packed.extractall(folder, filter="data")
    filled = json.loads((folder / "filled.json").read_text())
    name = f"upgrade_{uuid.uuid4().hex[:12]}"
    create_database(postgres, name)
    url = with_database(postgres, name)
    judge = StubServer(listen=tuple(filled["judge"]))
    try:
        judge.__enter__()
    except OSError as error:  # systems that give loopback one address
        pytest.skip(f"{filled['judge']} cannot be listened on: {error}")
    with pytest.MonkeyPatch.context() as patch, embedder() as inference:
        patch.chdir(folder)  # specs of the fixture name model and text relative to it
        settings = Settings(
            home=folder / "home",
            database_url=url,
            redis_url=None,
            inference_url=inference,
            judge_url=judge.url,
            judge_model="stub",
            secret=SecretStr(filled["secret"]),
            device="cpu",
            log_level="ERROR",
        )
        restore(url, settings.artifacts, folder / "backup", SILENT)
        engine = make_engine(url)
        with loopback_client(create_app(settings)) as client:
            yield Upgraded(settings, engine, client, filled, judge)
        engine.dispose()
    judge.__exit__()
    drop_database(postgres, name)


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Where ``after`` lacks what ``before`` has, or has it otherwise; what is new is no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            if name not in after:
                yield f"{where}.{name} is gone"
            else:
                yield from lost(value, after[name], f"{where}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif isinstance(before, float) and isinstance(after, float):
        # Quantiles come from another library since, equal to eleven digits.
        if before != pytest.approx(after, rel=1e-9):
            yield f"{where}: {before} is {after}"
    elif before != after:
        yield f"{where}: {before!r:.200} is {after!r:.200}"


def differences(upgraded: Upgraded) -> list[str]:
    lines = []
    for path, before in upgraded.filled["answers"].items():
        answer = upgraded.client.get(f"{API}{path}")
        assert answer.status_code == 200, f"{path}: {answer.text}"
        expected = current_words(before)  # baselines and dead latents have one name since
        lines += [
            each
            for each in lost(expected, answer.json(), path)
            if not any(rule.search(each) for rule in (HEADING, PERCENTILE, LEADS))
            and not each.endswith(GONE)
        ]
    return lines


def test_every_page_says_what_it_said(upgraded: Upgraded) -> None:
    assert is_current(upgraded.engine)
    assert differences(upgraded) == []


def test_down_and_up_again_keeps_every_row(upgraded: Upgraded) -> None:
    url = str(upgraded.settings.database_url)
    upgraded.engine.dispose()
    downgrade(url, "0011")
    assert not is_current(upgraded.engine)
    migrate(url)
    assert differences(upgraded) == []


def test_what_would_be_lost_is_seen() -> None:
    """The comparisons above would be worth nothing if they saw nothing."""
    before = {"a": [1, {"b": 2}], "c": 3}
    assert list(lost(before, {"a": [1, {"b": 2, "new": 0}], "c": 3})) == []
    assert len(list(lost(before, {"a": [1, {}], "c": 4}))) == 2
    assert len(list(lost(before, {"a": [1], "c": 3}))) == 1


def test_a_key_still_opens(upgraded: Upgraded) -> None:
    settings = upgraded.settings.model_copy(update={"require_keys": True})
    with loopback_client(create_app(settings)) as client:
        assert client.get(f"{API}/lists").status_code == 401
        key = {"Authorization": f"Bearer {upgraded.filled['key']}"}
        (mine,) = client.get(f"{API}/lists", headers=key).json()["items"]
        assert mine["name"] == "To look at"
        path = f"{API}/lists/{mine['id']}"
        changed = client.patch(path, json={"description": "kept"}, headers=key)
        assert changed.status_code == 200, "whoever made it may change it"


def test_the_stopped_training_goes_on_where_it_was(upgraded: Upgraded) -> None:
    run = uuid.UUID(upgraded.filled["stopped"])
    folder = upgraded.settings.artifacts / "runs" / str(run)
    newest = max(path.name for path in folder.glob("step-*"))
    upgraded.work()
    ended = acts.load(upgraded.engine, run)
    assert ended.state == "succeeded", ended.error
    assert resumed_steps(upgraded.engine, run) == [int(newest.removeprefix("step-"))]


def test_an_index_and_an_sae_are_read(upgraded: Upgraded) -> None:
    with transaction(upgraded.engine) as session:
        sae = session.scalars(select(Sae).where(Sae.name == "first")).one()
    assert sae.index is not None
    reader = IndexReader(Workspace(upgraded.settings.artifacts).locate(sae.index["path"]))
    assert reader.n_postings == sae.index["postings"]
    before = sae.metrics["evaluation"]
    spec = {"tokens": 512, "reconstruction_tokens": 1024}
    again = upgraded.submit({"kind": "evaluate", "sae": "first", "evaluation": spec})
    assert again.state == "succeeded", again.error
    with transaction(upgraded.engine) as session:
        after = session.get_one(Sae, sae.id).metrics["evaluation"]
    assert after["fvu"] == pytest.approx(before["fvu"], rel=1e-4)


def asked_of_the_first(upgraded: Upgraded) -> Iterator[dict[str, Any]]:
    """What explained and scored the first SAE, in the order of that time."""
    pipeline = upgraded.filled["submitted"]["pipeline first"]["spec"]
    yield {"kind": "explain", "sae": "first", "explanation": pipeline["explanation"]}
    yield {"kind": "score", "sae": "first", "scoring": pipeline["scoring"]}
    for name, entry in upgraded.filled["submitted"].items():
        if name.startswith(("explain", "score")):
            yield entry["spec"]


def explanations(upgraded: Upgraded) -> list[tuple[int, str, str]]:
    with transaction(upgraded.engine) as session:
        sae = select(Sae.id).where(Sae.name == "first").scalar_subquery()
        rows = session.scalars(
            select(Explanation).where(Explanation.sae_id == sae, Explanation.explainer != "human")
        )
        return sorted((row.feature, row.key, row.text) for row in rows)


def test_equal_work_is_known_and_asks_nothing(upgraded: Upgraded) -> None:
    before, stored = upgraded.questions(), explanations(upgraded)
    assert before > 0 and stored
    for spec in asked_of_the_first(upgraded):
        ended = upgraded.submit(spec)
        assert ended.state == "succeeded", f"{spec}: {ended.error}"
    assert upgraded.questions() == before
    assert upgraded.judge.requests == upgraded.judge.probes == []
    assert explanations(upgraded) == stored


def test_answers_of_the_judge_are_found_again(upgraded: Upgraded) -> None:
    """Without the explanations their questions are the same as then, and so are the answers."""
    stored = explanations(upgraded)
    with transaction(upgraded.engine) as session:
        first = select(Sae.id).where(Sae.name == "first").scalar_subquery()
        session.execute(delete(Explanation).where(Explanation.sae_id == first))
    for spec in asked_of_the_first(upgraded):
        ended = upgraded.submit(spec)
        assert ended.state == "succeeded", f"{spec}: {ended.error}"
    assert upgraded.judge.requests == []  # that it answers at all is tried once
    assert explanations(upgraded) == stored
