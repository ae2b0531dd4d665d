"""Garbage collection: planted garbage goes, all that somebody needs stays."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from typer.testing import CliRunner

from monosemy.errors import MonosemyError
from monosemy.workspace import Kind
from service.cli.main import app
from service.database.session import transaction
from service.database.tables import Context, Document, Run, RunEvent, Sae
from service.retention import collector
from service.retention.collector import Collection, collect
from service.retention.rules import Rules
from tests.support.library_rows import Library, add_library

pytestmark = pytest.mark.integration

DAY = 86400.0
RULES = Rules(grace=DAY, checkpoints=30 * DAY, activations=None, events=None)
TEXT, OTHER_TEXT = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_runs(engine: Engine) -> Iterator[None]:
    yield
    with transaction(engine) as session:
        for table in ("runs", "saes", "contexts", "documents", "models"):
            session.execute(text(f"DELETE FROM {table}"))


def plant(root: Path, path: str, days: float = 3.0, size: int = 10_000) -> Path:
    """A folder with a file below it (or the file alone, if it has an ending), so old."""
    place = root / path
    file = place if place.suffix == ".jsonl" else place / "deep" / "data.bin"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    age(place, days)
    return place


def age(place: Path, days: float) -> None:
    when = time.time() - days * DAY
    below = [] if place.is_symlink() else place.rglob("*")
    for each in (*below, place):
        os.utime(each, (when, when), follow_symlinks=False)


def add_sae(engine: Engine, name: str = "kept") -> Library:
    """An SAE whose rows refer to its folder, an index and ``TEXT``."""
    with transaction(engine) as session:
        library = add_library(session, name, features=4)
        sae = session.get_one(Sae, library.sae)
        sae.path = f"saes/{sae.id}"
        sae.index = {"path": f"indexes/{sae.id}-{TEXT}", "text_id": TEXT}
        sae.provenance = {"text": {"text_id": TEXT}}
        session.execute(text("UPDATE contexts SET text_id = :t"), {"t": TEXT})
        session.execute(text("UPDATE documents SET text_id = :t"), {"t": TEXT})
    return library


def add_run(engine: Engine, state: str, days: float = 0.0, **columns: object) -> str:
    with transaction(engine) as session:
        given = {"kind": "train", "queue": "gpu", "spec": {"kind": "train"}, **columns}
        run = Run(state=state, **given)
        session.add(run)
        session.flush()
        if state in ("succeeded", "failed", "cancelled"):
            session.execute(
                text("UPDATE runs SET finished_at = now() - make_interval(secs => :s) WHERE id=:i"),
                {"s": days * DAY, "i": run.id},
            )
        return str(run.id)


def gone(root: Path, done: Collection) -> set[str]:
    paths = {each.found.path for each in done.garbage}
    assert not any((root / path).exists() for path in paths)
    assert not any((root / Kind.TRASH).iterdir())
    return paths


def test_garbage_goes_and_what_is_needed_stays(engine: Engine, root: Path) -> None:
    sae = add_sae(engine).sae
    stranger = uuid.uuid4()
    garbage = {
        f"saes/{stranger}",
        f"indexes/{stranger}-{TEXT}",
        f"indexes/{sae}-{OTHER_TEXT}",
        f"runs/{stranger}",
        f"text/{OTHER_TEXT}",
        f"activations/{OTHER_TEXT}-blocks-1-hook-resid-post",
        f"saes/.{stranger}.partial",
        "text/.0123-half",
        "models/.gguf-1a2b3c4d",
    }
    needed = {
        f"saes/{sae}",
        f"indexes/{sae}-{TEXT}",
        f"text/{TEXT}",
        f"activations/{TEXT}-blocks-1-hook-resid-post",
        "saes/from-a-notebook",
        "indexes/from-a-notebook-aaaaaaaaaaaaaaaa",
        "text/aaaaaaaaaaaaaaaa",
        "models/exported",
        "probes/mine",
        "text/notes",
    }
    for path in garbage | needed:
        plant(root, path)
    young = plant(root, f"saes/{uuid.uuid4()}", days=0.5)
    seen = collect(engine, root, RULES)
    assert {each.found.path for each in seen.garbage} == garbage
    assert all((root / path).exists() for path in garbage | needed)
    assert not (root / Kind.TRASH).exists()
    kinds = seen.by_kind()
    assert {kind: number for kind, (number, _) in kinds.items()} == {
        "saes": 1,
        "indexes": 2,
        "runs": 1,
        "text": 1,
        "activations": 1,
        "temporary": 3,
    }
    assert 10_000 <= kinds["saes"][1] <= 40_000 and seen.bytes == sum(b for _, b in kinds.values())
    assert seen.young == 1 and seen.failed == []
    done = collect(engine, root, RULES, delete=True)
    assert gone(root, done) == garbage and done.bytes == seen.bytes
    assert all((root / path / "deep" / "data.bin").exists() for path in needed)
    assert young.exists()
    assert collect(engine, root, RULES, delete=True).garbage == []


def test_a_file_written_anywhere_below_makes_a_thing_young(engine: Engine, root: Path) -> None:
    place = plant(root, f"saes/{uuid.uuid4()}")
    (place / "deep" / "data.bin").touch()
    os.utime(place, (0, 0))
    assert collect(engine, root, RULES, delete=True).young == 1
    assert place.exists()


@pytest.mark.parametrize("state", ["queued", "running", "cancelling"])
def test_a_run_that_has_not_ended_keeps_all_it_may_need(
    engine: Engine, root: Path, state: str
) -> None:
    sae = add_sae(engine).sae
    source = uuid.uuid4()
    run = add_run(engine, state)
    largest = {"kind": "sweep", "saes": [{"d_sae": 64}] * 4, "seeds": list(range(16))}
    sweep = add_run(engine, state, kind="sweep", spec=largest)
    spec = {"kind": "import", "source": f"{root}/saes/{source}"}
    add_run(engine, state, kind="import", spec=spec)
    kept = [
        plant(root, path)
        for path in (
            f"runs/{run}/step-00000100",
            f"saes/{run}",
            f"saes/.{run}.partial",
            f"saes/{uuid.uuid5(uuid.UUID(sweep), '63')}",
            f"saes/{source}",
            f"indexes/{sae}-{OTHER_TEXT}",
            f"text/{OTHER_TEXT}",
            f"activations/{OTHER_TEXT}-site",
        )
    ]
    stranger = plant(root, f"saes/{uuid.uuid4()}")
    done = collect(engine, root, RULES, delete=True)
    assert [each.found.path for each in done.garbage] == [f"saes/{stranger.name}"]
    assert all(place.exists() for place in kept)
    assert done.kept["held"] == 3 and done.unfinished == 3
    with transaction(engine) as session:
        session.execute(text("UPDATE runs SET state = 'succeeded', finished_at = now()"))
    left = gone(root, collect(engine, root, RULES, delete=True))
    assert len(left) == len(kept) and f"runs/{run}/step-00000100" in left


def test_a_run_that_nobody_can_read_keeps_every_sae(engine: Engine, root: Path) -> None:
    """Of a kind whose plugin is absent: nobody knows which SAEs it will make."""
    run = add_run(engine, "queued", kind="gone", spec={"kind": "gone", "teacher": "x"})
    saes = [plant(root, f"saes/{uuid.uuid4()}") for _ in range(2)]
    done = collect(engine, root, RULES, delete=True)
    assert done.kept["held"] == 2 and not done.garbage
    with transaction(engine) as session:
        session.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run})
    assert len(gone(root, collect(engine, root, RULES, delete=True))) == len(saes)


def test_checkpoints_of_ended_runs(engine: Engine, root: Path) -> None:
    runs = {
        "done": add_run(engine, "succeeded"),
        "failed": add_run(engine, "failed", days=29),
        "long failed": add_run(engine, "failed", days=31),
        "long cancelled": add_run(engine, "cancelled", days=31),
    }
    for run in runs.values():
        plant(root, f"runs/{run}/step-00000100")
        plant(root, f"runs/{run}/history.jsonl")
        age(root / "runs" / run, 3)
    removed = gone(root, collect(engine, root, RULES, delete=True))
    assert removed == {
        f"runs/{runs[name]}/step-00000100" for name in ("done", "long failed", "long cancelled")
    }
    assert all((root / "runs" / run / "history.jsonl").exists() for run in runs.values())


def test_links_are_left_alone_and_nothing_outside_is_touched(
    engine: Engine, root: Path, tmp_path: Path
) -> None:
    outside = plant(tmp_path, "outside")
    link = root / "saes" / str(uuid.uuid4())
    link.parent.mkdir()
    link.symlink_to(outside)
    age(link, 3)
    kind = tmp_path / "elsewhere"
    inside_kind = plant(kind, str(uuid.uuid4()))
    (root / "runs").symlink_to(kind)
    holder = plant(root, f"saes/{uuid.uuid4()}")
    (holder / "out").symlink_to(outside)
    (holder / "up").symlink_to("..")
    age(holder, 3)
    done = collect(engine, root, RULES, delete=True)
    assert gone(root, done) == {f"saes/{holder.name}"}
    assert link.is_symlink() and (root / "runs").is_symlink()
    assert (outside / "deep" / "data.bin").exists() and inside_kind.exists()


def test_a_folder_turned_into_a_link_meanwhile_leads_nowhere(
    engine: Engine, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = plant(root, f"saes/{uuid.uuid4()}")
    outside = plant(tmp_path, f"other/{place.name}")
    right = collector.trash.discard

    def swapped(root: Path, parts: tuple[str, ...]) -> None:
        (root / "saes").rename(tmp_path / "moved")
        (root / "saes").symlink_to(outside.parent)
        right(root, parts)

    monkeypatch.setattr(collector.trash, "discard", swapped)
    done = collect(engine, root, RULES, delete=True)
    assert done.garbage == [] and len(done.failed) == 1
    assert outside.exists() and (tmp_path / "moved" / place.name).exists()


def test_what_comes_into_use_between_look_and_removal_stays(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = plant(root, f"text/{OTHER_TEXT}")
    written = plant(root, f"saes/{uuid.uuid4()}")
    right = collector.hold_runs

    def begun(session: object) -> None:
        (written / "deep" / "data.bin").touch()
        add_run(engine, "running")
        right(session)  # type: ignore[arg-type]

    monkeypatch.setattr(collector, "hold_runs", begun)
    assert collect(engine, root, RULES, delete=True).garbage == []
    assert place.exists() and written.exists()


def test_no_run_begins_while_things_are_moved(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(root, f"text/{OTHER_TEXT}")
    events: list[str] = []
    right = collector.trash.discard

    def submit() -> None:
        add_run(engine, "queued")
        events.append("submitted")

    thread = threading.Thread(target=submit)

    def slow(root: Path, parts: tuple[str, ...]) -> None:
        thread.start()
        time.sleep(0.4)
        right(root, parts)
        events.append("moved")

    monkeypatch.setattr(collector.trash, "discard", slow)
    collect(engine, root, RULES, delete=True)
    thread.join(10)
    assert events == ["moved", "submitted"]


def test_collectors_at_once(engine: Engine, root: Path) -> None:
    planted = {f"saes/{uuid.uuid4()}" for _ in range(120)}
    for path in planted:
        plant(root, path, size=10)
    barrier = threading.Barrier(3)

    def one(_: int) -> Collection:
        barrier.wait()
        return collect(engine, root, RULES, delete=True)

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(one, range(3)))
    assert all(each.failed == [] for each in done)
    removed = [each.found.path for part in done for each in part.garbage]
    assert len(removed) == len(set(removed)) and set(removed) == planted
    assert list((root / "saes").iterdir()) == []
    assert list((root / Kind.TRASH).iterdir()) == []


def test_what_an_interrupted_collector_left_is_removed(engine: Engine, root: Path) -> None:
    plant(root, f"{Kind.TRASH}/half-removed", days=0)
    collect(engine, root, RULES)
    assert (root / Kind.TRASH / "half-removed").exists()
    collect(engine, root, RULES, delete=True)
    assert list((root / Kind.TRASH).iterdir()) == []


def test_caches_nobody_reads_go_when_asked(engine: Engine, root: Path) -> None:
    add_sae(engine)
    old = plant(root, f"activations/{TEXT}-old", days=8)
    read = plant(root, f"activations/{TEXT}-read", days=8)
    os.utime(read / "deep" / "data.bin", (time.time() - DAY, time.time() - 8 * DAY))
    rules = Rules(grace=DAY, checkpoints=DAY, activations=7 * DAY, events=None)
    run = add_run(engine, "running")
    assert collect(engine, root, rules, delete=True).garbage == []
    with transaction(engine) as session:
        session.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run})
    assert gone(root, collect(engine, root, rules, delete=True)) == {f"activations/{old.name}"}
    assert read.exists()


def test_old_events_go_but_states_stay(engine: Engine, root: Path) -> None:
    rules = Rules(grace=DAY, checkpoints=DAY, activations=None, events=10 * DAY)
    runs = [add_run(engine, "failed", days=11), add_run(engine, "failed", days=9)]
    runs.append(add_run(engine, "running"))
    with transaction(engine) as session:
        for run in runs:
            for type_ in ("state", "progress", "progress", "log", "stage"):
                session.add(RunEvent(run_id=uuid.UUID(run), type=type_, data={}))
    assert collect(engine, root, RULES, delete=True).events == 0
    assert collect(engine, root, rules).events == 3
    assert collect(engine, root, rules, delete=True).events == 3
    with transaction(engine) as session:
        kept = session.execute(select(RunEvent.run_id, RunEvent.type)).tuples().all()
    assert sorted(type_ for run, type_ in kept if str(run) == runs[0]) == ["stage", "state"]
    assert len(kept) == 12


def test_texts_no_sae_is_indexed_over(
    engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.retention.rows._AT_ONCE", 7)
    add_sae(engine)
    with transaction(engine) as session:
        before = session.query(Context).count(), session.query(Document).count()
        for row in range(16):
            session.add(
                Context(text_id=OTHER_TEXT, row=row, document=0, start=0, token_ids=b"\0" * 4)
            )
        session.add(Document(text_id=OTHER_TEXT, document=0, name="lost"))
    run = add_run(engine, "queued")
    busy = collect(engine, root, RULES, delete=True)
    assert (busy.contexts, busy.documents) == (0, 0)
    with transaction(engine) as session:
        session.execute(text("DELETE FROM runs WHERE id = :id"), {"id": run})
    seen = collect(engine, root, RULES)
    done = collect(engine, root, RULES, delete=True)
    assert (seen.contexts, seen.documents) == (done.contexts, done.documents) == (16, 1)
    with transaction(engine) as session:
        assert (session.query(Context).count(), session.query(Document).count()) == before


def test_a_root_that_is_not_there(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(MonosemyError, match="no folder"):
        collect(engine, tmp_path / "nowhere", RULES)


def test_the_command(
    database_url: str, engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONOSEMY_HOME", str(root.parent))
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", database_url)
    place = plant(root, f"saes/{uuid.uuid4()}")

    def call(*arguments: str) -> str:
        ended = CliRunner().invoke(app, ["gc", *arguments], env={"COLUMNS": "200"})
        assert ended.exit_code == 0, ended.output
        return ended.output

    assert "would be removed with --delete" in call()
    assert json.loads(call("--json"))["paths"] == [f"saes/{place.name}"]
    assert json.loads(call("--json", "--grace-hours", "100"))["kept"]["young"] == 1
    assert place.exists()
    assert "1 things" in call("--delete")
    assert not place.exists()
