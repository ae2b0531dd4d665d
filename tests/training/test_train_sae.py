"""Whole training runs: what comes out, and that stopping changes nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from monosemy.errors import Cancelled, DataError, Interrupted, Stopped
from monosemy.models.activations import ActivationSource
from monosemy.progress import Reporter, StageProgress
from monosemy.specs import ModelSpec, TopKSpec, TrainingSpec, TrainRun
from monosemy.specs.readings import TrainingReading
from monosemy.training.train import TrainedSAE, train_sae
from tests.support.planted import ArraySource, planted

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.models.host import HostModel

SITE = "blocks.2.hook_resid_post"


def planted_run(seed: int = 0, dtype: str = "float32", **training: Any) -> TrainRun:
    settings = {
        "tokens": 20_000,
        "batch_tokens": 200,
        "buffer_tokens": 3000,
        "learning_rate": 3e-3,
        "checkpoint_seconds": 1e9,
        "seed": seed,
    }
    return TrainRun(
        model=ModelSpec(dtype=dtype, device="cpu"),  # type: ignore[arg-type]
        site=SITE,
        sae=TopKSpec(d_sae=48, k=3, dead_after_tokens=3000),
        training=TrainingSpec(**{**settings, **training}),
    )


def train(spec: TrainRun, folder: Path, reporter: Reporter | None = None) -> TrainedSAE:
    source, store, _ = planted()
    return train_sae(spec, store, source, folder, reporter or Reporter())


class StopsAt(Reporter):
    """Asks to stop once ``tokens`` are done (or, at 0, while the buffer is filled)."""

    def __init__(self, tokens: int, reason: type[Stopped] = Interrupted) -> None:
        super().__init__(lambda: reason if self.asked else None)
        self.tokens, self.asked = tokens, False
        self.seen: list[StageProgress] = []
        self.logged: list[str] = []

    def update(self, progress: StageProgress) -> None:
        self.seen.append(dataclasses.replace(progress, metrics=dict(progress.metrics)))
        read_something = bool(progress.metrics)
        self.asked = progress.done >= self.tokens if self.tokens else read_something

    def log(self, message: str, **fields: Any) -> None:
        self.logged.append(message)


def assert_same(one: TrainedSAE, other: TrainedSAE) -> None:
    assert one.baseline is not None and other.baseline is not None
    pairs = ((one.sae, other.sae), (one.baseline, other.baseline))
    for left, right in pairs:
        for name, value in left.state_dict().items():
            assert torch.equal(value, right.state_dict()[name]), name
    timed = {"seconds", "tokens_per_second"}
    metrics = [
        {key: value for key, value in trained.metrics.items() if key not in timed}
        for trained in (one, other)
    ]
    assert metrics[0] == metrics[1]
    histories = [
        [reading.model_dump(exclude={"seconds"}) for reading in trained.history]
        for trained in (one, other)
    ]
    assert histories[0] == histories[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainedSAE:
    return train(planted_run(), tmp_path_factory.mktemp("whole"))


def test_what_comes_out(uninterrupted: TrainedSAE) -> None:
    metrics = uninterrupted.metrics
    assert metrics["tokens"] == 20_000 and metrics["steps"] == 100
    assert metrics["epochs"] == pytest.approx(20_000 / 18_000, abs=0.01)
    assert 0 < metrics["l0"] <= 3 and 0 <= metrics["dead_share"] < 1
    assert metrics["fvu"] < metrics["frozen_decoder_baseline"]["fvu"] < 1, (
        "structure-free directions do worse"
    )
    assert not any(p.requires_grad for p in uninterrupted.sae.parameters())
    torch.testing.assert_close(uninterrupted.sae.W_dec.norm(dim=1), torch.ones(48))
    json.dumps(metrics)


def test_the_sae_takes_activations_as_the_host_has_them(uninterrupted: TrainedSAE) -> None:
    source, store, _ = planted()
    x, _ = source.rows(store.heldout_rows())
    assert uninterrupted.metrics["activation_scale"] != pytest.approx(1.0, abs=0.1)
    fvu = (uninterrupted.sae(x) - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert float(fvu) == pytest.approx(uninterrupted.metrics["fvu"], rel=0.3)


def test_the_baselines_decoder_is_what_it_was_at_the_start(
    uninterrupted: TrainedSAE, tmp_path: Path
) -> None:
    short = train(planted_run(tokens=200), tmp_path)
    assert short.baseline is not None and uninterrupted.baseline is not None
    assert torch.equal(short.baseline.W_dec, uninterrupted.baseline.W_dec)
    assert not torch.equal(short.baseline.W_enc, uninterrupted.baseline.W_enc)
    assert not torch.equal(short.sae.W_dec, uninterrupted.sae.W_dec)
    assert not torch.equal(short.sae.W_dec, short.baseline.W_dec)


def test_seeds_reproduce_and_differ(uninterrupted: TrainedSAE, tmp_path: Path) -> None:
    assert_same(train(planted_run(), tmp_path / "again"), uninterrupted)
    other = train(planted_run(seed=1), tmp_path / "other")
    assert not torch.equal(other.sae.W_dec, uninterrupted.sae.W_dec)


@pytest.mark.parametrize("reason", [Interrupted, Cancelled])
def test_a_stopped_run_resumes_bit_for_bit(
    uninterrupted: TrainedSAE, tmp_path: Path, reason: type[Stopped]
) -> None:
    for tokens in (200, 7000, 7200, 15_000):
        with pytest.raises(reason):
            train(planted_run(), tmp_path, StopsAt(tokens, reason))
        steps = sorted(path.name for path in tmp_path.glob("step-*"))
        assert steps[-1] == f"step-{tokens // 200:010d}"
    last = StopsAt(10**9)
    assert_same(train(planted_run(), tmp_path, last), uninterrupted)
    assert last.seen[0].done == 15_000 and "resumed from a checkpoint" in last.logged


def test_resuming_in_bfloat16_is_bit_for_bit_too(tmp_path: Path) -> None:
    spec = planted_run(dtype="bfloat16", tokens=6000)
    whole = train(spec, tmp_path / "whole")
    assert whole.metrics["product_dtype"] == "bfloat16"
    with pytest.raises(Interrupted):
        train(spec, tmp_path / "parts", StopsAt(3000))
    assert_same(train(spec, tmp_path / "parts"), whole)


def test_a_damaged_checkpoint_costs_time_and_nothing_else(
    uninterrupted: TrainedSAE, tmp_path: Path
) -> None:
    for tokens in (5000, 10_000):
        with pytest.raises(Interrupted):
            train(planted_run(), tmp_path, StopsAt(tokens))
    newest = tmp_path / "step-0000000050" / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    reporter = StopsAt(10**9)
    assert_same(train(planted_run(), tmp_path, reporter), uninterrupted)
    assert reporter.seen[0].done == 5000 and "damaged checkpoint passed over" in reporter.logged


def test_a_run_stopped_while_the_buffer_fills_starts_again(
    uninterrupted: TrainedSAE, tmp_path: Path
) -> None:
    reporter = StopsAt(0)
    with pytest.raises(Interrupted):
        train(planted_run(), tmp_path, reporter)
    assert 0 < reporter.seen[-1].metrics["buffer_filled"] < 1
    assert not list(tmp_path.glob("step-*"))
    assert_same(train(planted_run(), tmp_path), uninterrupted)


def test_a_finished_run_is_not_run_again(uninterrupted: TrainedSAE, tmp_path: Path) -> None:
    train(planted_run(), tmp_path)
    source, store, _ = planted()
    again = train_sae(planted_run(), store, source, tmp_path)
    assert_same(again, uninterrupted)
    assert source.read_rows == []


def test_another_specs_checkpoint_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(planted_run(seed=5), tmp_path, StopsAt(4000))
    with pytest.raises(DataError, match=r"step 20\) of a run on other terms: .*seed 5 then, 6 now"):
        train(planted_run(seed=6), tmp_path)
    resumed = StopsAt(6000)
    with pytest.raises(Interrupted):
        train(planted_run(seed=5, checkpoint_seconds=5.0), tmp_path, resumed)
    assert resumed.seen[0].done == 4000, "how often checkpoints are written does not matter"


def test_checkpoints_are_written_on_the_way(tmp_path: Path) -> None:
    seen: set[str] = set()

    class Watch(Reporter):
        def update(self, progress: StageProgress) -> None:
            seen.update(path.name for path in tmp_path.glob("step-*"))

    train(planted_run(tokens=2000, checkpoint_seconds=1e-6), tmp_path, Watch())
    assert {f"step-{step:010d}" for step in range(1, 11)} <= seen | {"step-0000000010"}
    assert len(list(tmp_path.glob("step-*"))) == 2


def test_progress_and_history(tmp_path: Path) -> None:
    reporter = StopsAt(10**9)
    trained = train(planted_run(), tmp_path, reporter)
    last = reporter.seen[-1]
    assert (last.name, last.unit, last.done, last.total) == ("train", "tokens", 20_000, 20_000)
    assert {"fvu", "l0", "dead_share", "loss", "frozen_decoder_baseline_fvu"} <= set(last.metrics)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [reading.model_dump() for reading in trained.history]
    assert [line["step"] for line in lines] == [1, *range(10, 101, 10)]
    assert lines[-1]["fvu"] < lines[0]["fvu"]
    assert lines[-1]["fvu"] < lines[-1]["frozen_decoder_baseline"]["fvu"]


class Kept(StopsAt):
    """What is reported, as a database would keep it."""

    def __init__(self, tokens: int, rows: dict[int, TrainingReading]) -> None:
        super().__init__(tokens)
        self.rows = rows

    def begin_readings(self, place: int, step: int, kept: Sequence[TrainingReading]) -> None:
        assert place == 0
        for number in [number for number in self.rows if number > step]:
            del self.rows[number]
        self.rows.update({reading.step or 0: reading for reading in kept})

    def reading(self, place: int, reading: TrainingReading) -> None:
        assert place == 0
        self.rows[reading.step or 0] = reading


def test_a_resumed_training_reports_the_history_of_one_that_was_never_stopped(
    tmp_path: Path, uninterrupted: TrainedSAE
) -> None:
    rows: dict[int, TrainingReading] = {}
    with pytest.raises(Interrupted):
        train(planted_run(), tmp_path, Kept(9000, rows))
    assert max(rows) == 40
    rows[99] = rows[40]  # of steps that were lost with a worker
    del rows[20]  # the database was away
    train(planted_run(), tmp_path, Kept(10**9, rows))
    reported = [rows[step].model_dump(exclude={"seconds"}) for step in sorted(rows)]
    assert reported == [each.model_dump(exclude={"seconds"}) for each in uninterrupted.history]
    assert rows[100].frozen_decoder_baseline is not None


def test_a_checkpoint_with_readings_of_an_earlier_version_is_gone_on_from(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(planted_run(), tmp_path, StopsAt(4000))
    file = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line |= line.pop("terms")
        line["baseline_fvu"] = line.pop("frozen_decoder_baseline")["fvu"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = train(planted_run(), tmp_path).history
    assert [each.step for each in whole] == [1, *range(10, 101, 10)]
    assert (
        whole[0].frozen_decoder_baseline is not None
        and whole[0].terms.keys() == whole[-1].terms.keys()
    )


def test_without_a_baseline(tmp_path: Path) -> None:
    trained = train(planted_run(tokens=1000, frozen_decoder_baseline=False), tmp_path)
    assert trained.baseline is None and "frozen_decoder_baseline" not in trained.metrics


def test_outliers_are_neither_trained_on_nor_lost_sight_of(tmp_path: Path) -> None:
    source, store, _ = planted()
    source.acts[77::500] *= 1e4  # in rows that are trained on
    trained = train_sae(planted_run(tokens=18_000), store, source, tmp_path)
    assert trained.metrics["fvu"] < 0.6
    assert trained.metrics["max_norm"] < 1000
    assert 30 <= trained.metrics["outliers"] <= 60


def test_a_text_that_is_all_held_out_is_refused(tmp_path: Path) -> None:
    source, store, _ = planted()
    store.training_rows = lambda: np.zeros(0, np.int64)
    with pytest.raises(DataError, match="every document is held out"):
        train_sae(planted_run(), store, source, tmp_path)


class Recording(ArraySource):
    """An activation source that remembers which rows were asked for."""

    def __init__(self, source: ActivationSource) -> None:
        self.source, self.width = source, source.width
        self.read_rows, self.flushed = [], 0

    def rows(self, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
        self.read_rows.extend(int(row) for row in rows)
        return self.source.rows(rows)

    def flush(self) -> None:
        self.flushed += 1
        self.source.flush()


def test_a_real_host_model_and_its_cache(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path
) -> None:
    spec = TrainRun(
        model=ModelSpec(dtype="float32", device="cpu"),
        site=SITE,
        sae=TopKSpec(d_sae=64, k=4, dead_after_tokens=2000),
        training=TrainingSpec(tokens=6000, batch_tokens=128, buffer_tokens=1024),
    )
    source = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "cache")
    recorded = Recording(source)
    with pytest.raises(Interrupted):
        train_sae(spec, tiny_store, recorded, tmp_path / "run", StopsAt(2000))
    assert recorded.flushed >= 1
    assert 0 < source.cached_share() < 1
    # What was computed before the interruption outlives it, and the rest of the run is the same.
    again = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "cache")
    assert again.cached_share() == source.cached_share()
    resumed = train_sae(spec, tiny_store, again, tmp_path / "run")
    fresh = ActivationSource(tiny_host, tiny_store, SITE, tmp_path / "other")
    assert_same(resumed, train_sae(spec, tiny_store, fresh, tmp_path / "whole"))
    assert set(recorded.read_rows) <= set(tiny_store.training_rows().tolist())
    assert resumed.metrics["fvu"] < 0.7


@pytest.mark.parametrize("stops", [[128], [2944], [1024, 1152, 5888]])
def test_on_a_host_model_stopping_changes_no_bit(
    tiny_host: HostModel, tiny_store: TokenStore, tmp_path: Path, stops: list[int]
) -> None:
    spec = TrainRun(
        model=ModelSpec(dtype="float32", device="cpu"),
        site="blocks.1.attn.hook_z",
        sae=TopKSpec(d_sae=48, k=4, dead_after_tokens=500),
        training=TrainingSpec(
            tokens=6000, batch_tokens=128, buffer_tokens=1024, learning_rate=5e-3, warmup_steps=5
        ),
    )

    def run(name: str, reporter: Reporter) -> TrainedSAE:
        # No cache: an interrupted run computes some rows a second time.
        source = ActivationSource(tiny_host, tiny_store, spec.site, None)
        return train_sae(spec, tiny_store, source, tmp_path / name, reporter)

    whole = run("whole", Reporter())
    assert {"tokens", "steps", "fvu", "l0", "dead_share", "frozen_decoder_baseline"} <= set(
        whole.metrics
    )
    assert whole.history[-1].fvu < 0.8 * whole.history[0].fvu
    for tokens in stops:
        with pytest.raises(Interrupted):
            run("parts", StopsAt(tokens))
    assert_same(run("parts", Reporter()), whole)
