"""Every block of docs/client.md, run as it stands there, on the real stack with a worker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import monosemy
from monosemy.client import ApiError, Conflict, InvalidRequest, NotAuthorised, RunFailed
from monosemy.errors import SpecError
from monosemy.progress import Reporter, StageProgress
from service.database.session import transaction
from service.database.tables import Sae
from tests.support.trained_library import Trained
from tests.support.whole_api import Target, whole_api
from tests.support.worker_thread import working
from workers.gpu import GpuRuns

pytestmark = pytest.mark.integration

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "client.md"


@pytest.fixture(scope="module")
def target(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with transaction(trained.engine) as session:
        session.execute(update(Sae).where(Sae.name == "tiny").values(name="demo"))
    trained.add_heads()
    execute = GpuRuns(trained.settings, trained.engine)
    with (
        whole_api(trained, tmp_path_factory.mktemp("valkey")) as target,
        working(trained.engine, trained.settings, execute),
    ):
        yield target


@pytest.fixture(scope="module")
def client(target: Target) -> Iterator[monosemy.Client]:
    with monosemy.Client(target.address, target.key) as client:
        yield client


def test_every_block_of_the_guide(
    target: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MONOSEMY_URL", target.address)
    monkeypatch.setenv("MONOSEMY_API_KEY", target.key)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(blocks) >= 9
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    assert names["sae"].name == "demo" and names["run"].state == "succeeded"
    assert names["page"].index == names["dense"][0].index
    assert len(names["dense"]) == 5
    assert names["mine"].label == "royalty" and names["hits"].query == "kings and queens"
    assert (tmp_path / "features.parquet").read_bytes()[:4] == b"PAR1"
    assert "".join(each.text for each in names["reading"].tokens) == (
        "The clockmaker repaired a map."
    )
    assert "".join(names["long"].tokens.text) == "The clockmaker repaired a map."
    assert len(names["long"].unexplained[0]) == len(names["long"].tokens.id)
    assert names["long"].features.index[names["long"].followed[0].feature] == 3
    assert names["contrast"].n_positive == 2
    (traced,) = names["lens"].features
    assert sum(part.value for part in traced.parts) == pytest.approx(traced.pre, rel=1e-4)
    assert [each.name for each in names["lens"].saes] == ["heads", "demo"]
    assert len(names["both"].steered.tokens) == len(names["both"].plain.tokens) == 6
    assert {row["group"] for row in names["spend"]["items"]} == set()
    shown = capsys.readouterr()
    assert "evaluate" in shown.out + shown.err  # the progress of the run that was waited for
    assert "There is no SAE 'nobody'." in shown.out and "not-found" in shown.out


def test_a_stream_says_what_the_whole_answer_says(client: monosemy.Client) -> None:
    asked: dict[str, Any] = {"features": {5: 8.0}, "unit": "activation", "new_tokens": 5, "seed": 3}
    whole = client.inference.steered("demo", "The clockmaker", **asked)
    events = list(client.inference.steer("demo", "The clockmaker", **asked))
    assert [event.event for event in events] == ["prompt", *["token"] * 10, "end"]
    for row, text in (("steered", whole.steered), ("plain", whole.plain)):
        written = [event for event in events if event.event == "token" and event.row == row]
        assert text is not None
        assert [event.id for event in written] == [token.id for token in text.tokens]
    left = client.inference.steer("demo", "The clockmaker", **asked)
    assert next(left).event == "prompt"
    left.close()
    assert list(left) == []


def test_progress_of_a_run_goes_to_the_reporter(client: monosemy.Client) -> None:
    class Noted(Reporter):
        def __init__(self) -> None:
            super().__init__()
            self.ended: list[StageProgress] = []

        def finish(self, progress: StageProgress) -> None:
            self.ended.append(progress)

    noted = Noted()
    evaluation = {"tokens": 512, "reconstruction_tokens": 1024}
    run = client.runs.submit({"kind": "evaluate", "sae": "demo", "evaluation": evaluation})
    ended = client.runs.wait(run, noted)
    assert ended.id == run.id and ended.result
    assert noted.ended and all(each.name.startswith("evaluate ") for each in noted.ended)
    assert [each.done for each in noted.ended] == [stage["done"] for stage in ended.stages]


def test_a_cancelled_run_is_retried_and_a_failed_one_raises(client: monosemy.Client) -> None:
    spec = {"kind": "explain", "sae": "demo"}  # nobody works on its queue
    run = client.runs.submit(spec, idempotency_key="once")
    assert client.runs.submit(spec, idempotency_key="once").id == run.id
    assert client.runs.prioritise(run, -5).priority == -5
    assert client.runs.cancel(run).state == "cancelled"
    with pytest.raises(RunFailed, match="cancelled") as caught:
        client.runs.wait(run)
    assert caught.value.run.id == run.id
    states = [event.data["state"] for event in client.runs.events(run) if event.type == "state"]
    assert states == ["queued", "cancelled"]
    assert client.runs.retry(run).state == "queued"
    with pytest.raises(Conflict):
        client.runs.delete(run)
    client.runs.cancel(run)
    client.runs.delete(run)
    assert run.id not in {each.id for each in client.runs.list(kind="explain")}


def test_errors_are_told_apart(client: monosemy.Client, target: Target) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.runs.submit({"kind": "train", "training": {"token": 5}})
    assert caught.value.status == 422
    assert [(each.path, each.message) for each in caught.value.faults] == [
        ("training.token", "unknown key; did you mean 'tokens'?")
    ]
    with pytest.raises(SpecError, match=r"new_token: unknown key; did you mean 'new_tokens'\?"):
        client.inference.steer("demo", "x", features={1: 1.0}, new_token=3)
    with monosemy.Client(target.address, "no-such-key") as stranger, pytest.raises(NotAuthorised):
        stranger.saes.get("demo")
    with pytest.raises(ApiError, match="1 to 255"):
        client.inference.activations("demo", "word " * 400)
    with pytest.raises(InvalidRequest, match="0 to 63"):
        client.inference.steer("demo", "x", features={64: 1.0}, unit="activation")


def test_listings_go_over_pages(client: monosemy.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [each.index for each in client.features.list("demo")]
    monkeypatch.setattr("monosemy.client.listing.MAX_PAGE", 7)
    assert [each.index for each in client.features.list("demo")] == whole
    assert [each.index for each in client.features.list("demo", limit=10)] == whole[:10]
    one = client.features.get("demo", whole[0])
    groups = client.features.groups("demo", whole[0])
    assert sum(groups.values()) == len(list(client.features.examples("demo", one.index)))
