"""Where the buffer lies and what crosses to it and from it, on GPUs that PyTorch makes believe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from monosemy.specs import TrainingSpec
from monosemy.training.buffer import ON_CPU, ActivationBuffer, Placement, choose_placement, norms
from monosemy.training.stream import ActivationStream
from monosemy.training.train import TrainingLoop
from tests.support.planted import numbered_source, planted
from tests.training.test_other_terms import Source, Store, run_of, train

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
BF16_CPU = Placement(CPU, torch.bfloat16, CPU)
LENGTHS = [7, 1, 30, 12, 25, 9, 16, 40, 3, 22]


class Crossings(TorchDispatchMode):
    """Notes what is copied from one device to another: shape, dtype, where to."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], torch.dtype, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._schema.name == "aten::_to_copy" and result.device != args[0].device:
            self.seen.append((tuple(result.shape), result.dtype, result.device.type))
        return result


def crossings(placement: Placement, acts_on: torch.device) -> tuple[Tensor, Any]:
    """What a block put and a batch taken copy between devices.  An operator that would wait for
    the card raises here: a fake tensor has no values."""
    with FakeTensorMode(), Crossings() as crossed:
        buffer = ActivationBuffer(64, 6, placement)
        block = torch.zeros(20, 6, dtype=torch.bfloat16, device=acts_on)
        buffer.put(torch.arange(20), buffer.admitted(block))
        return buffer.take(torch.arange(8)), crossed.seen


def test_on_the_device_nothing_crosses_but_the_order() -> None:
    batch, seen = crossings(Placement(CARD, torch.bfloat16, CARD), CARD)
    assert (batch.device, batch.dtype, batch.shape) == (CARD, torch.float32, (8, 6))
    assert seen == [((20,), torch.int64, "cuda"), ((8,), torch.int64, "cuda")]


def test_from_host_memory_one_block_of_half_the_size_crosses() -> None:
    batch, seen = crossings(Placement(CPU, torch.bfloat16, torch.device("cuda")), CARD)
    assert (batch.device, batch.dtype) == (CARD, torch.float32)
    assert seen == [((20, 6), torch.bfloat16, "cpu"), ((8, 6), torch.bfloat16, "cuda")]


def test_what_a_cache_has_crosses_once_in_its_dtype() -> None:
    _, seen = crossings(Placement(CARD, torch.bfloat16, CARD), CPU)
    assert [entry for entry in seen if len(entry[0]) == 2] == [((20, 6), torch.bfloat16, "cuda")]


GB = 1_000_000_000


@pytest.mark.parametrize(
    ("spec", "serves", "read", "free", "wanted"),
    [
        ({}, "cpu", torch.bfloat16, 0, ("cpu", torch.float32)),
        ({}, "cpu", torch.float32, 0, ("cpu", torch.float32)),
        ({}, "cuda", torch.bfloat16, 10 * GB, ("cuda", torch.bfloat16)),
        ({}, "cuda", torch.float32, 10 * GB, ("cuda", torch.float32)),
        ({}, "cuda", torch.bfloat16, 3 * GB, ("cpu", torch.bfloat16)),
        ({"buffer_device": "device"}, "cuda", torch.bfloat16, 0, ("cuda", torch.bfloat16)),
        ({"buffer_device": "host"}, "cuda", torch.bfloat16, 90 * GB, ("cpu", torch.bfloat16)),
        ({"buffer_dtype": "bfloat16"}, "cpu", torch.float32, 0, ("cpu", torch.bfloat16)),
        # 1 GB of SAEs, 2 of a buffer in bfloat16 or 4 in float32, of which 80 % are to be had
        ({"buffer_dtype": "float32"}, "cuda", torch.bfloat16, 6 * GB, ("cpu", torch.float32)),
        ({"buffer_dtype": "bfloat16"}, "cuda", torch.float32, 6 * GB, ("cuda", torch.bfloat16)),
    ],
)
def test_the_buffer_is_where_it_fits(
    spec: Any, serves: str, read: Any, free: int, wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 99 * GB))
    placed = choose_placement(
        TrainingSpec(**spec), torch.device(serves), read, numbers=GB, beside=GB
    )
    assert (placed.device.type, placed.dtype, placed.serves.type) == (*wanted, serves)


def streams(*placements: Placement, ratio: float | None = None) -> list[ActivationStream]:
    spec = TrainingSpec(batch_tokens=10, buffer_tokens=64, host_rows=2, max_norm_ratio=ratio)
    batches = []
    for placement in placements:
        source = numbered_source(LENGTHS)
        source.acts[:, 1:] = torch.randn(165, 2, generator=torch.Generator().manual_seed(0))
        source.acts[:] = source.acts.bfloat16().float()
        source.acts[[4, 50, 120]] *= 128
        batches.append(ActivationStream(source, np.arange(len(LENGTHS)), spec, placement=placement))
    return batches


def test_a_buffer_in_bfloat16_serves_the_same_bits_of_a_bfloat16_host() -> None:
    plain, halved = streams(ON_CPU, BF16_CPU, ratio=10.0)
    for _ in range(60):
        batch = halved.next_batch()
        assert batch.dtype == torch.float32 and torch.equal(batch, plain.next_batch())
    assert halved.max_norms == plain.max_norms and halved.outliers == plain.outliers > 3
    assert halved.buffer.values.element_size() == 2


def test_a_checkpoint_says_in_which_dtype_it_goes_on() -> None:
    first, other, plain = streams(BF16_CPU, ON_CPU, ON_CPU)
    for _ in range(5):
        first.next_batch(), plain.next_batch()
    other.restore(*first.state())
    assert other.buffer.values.dtype == torch.bfloat16
    assert all(torch.equal(other.next_batch(), first.next_batch()) for _ in range(30))
    tensors, values = plain.state()
    del values["buffer_dtype"]  # of before there was a choice
    (old,) = streams(BF16_CPU)
    old.restore(tensors, values)
    assert old.buffer.values.dtype == torch.float32
    assert all(torch.equal(old.next_batch(), plain.next_batch()) for _ in range(30))


def test_statistics_are_of_all_of_a_float32_buffer_and_of_an_even_sample_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monosemy.training.buffer._SAMPLE", 30)
    plain, halved = (ActivationBuffer(64, 3, placement) for placement in (ON_CPU, BF16_CPU))
    assert plain.sample() is plain.values
    halved.values[:, 0] = torch.arange(64)
    assert halved.sample().dtype == torch.float32
    assert halved.sample()[:, 0].tolist() == list(range(0, 64, 3))


def test_norms_are_summed_in_float32() -> None:
    acts = torch.full((2, 4096), 0.1, dtype=torch.bfloat16)
    wanted = acts.double().norm(dim=1)
    torch.testing.assert_close(
        norms(acts, [slice(0, 4096)])[:, 0], wanted.float(), rtol=1e-5, atol=0
    )


def test_where_the_buffer_lies_is_no_term_of_a_run_and_its_dtype_is(tmp_path: Path) -> None:
    def loop(number: int, **training: Any) -> TrainingLoop:
        spec = run_of(**training)
        folder = tmp_path / str(number)
        return TrainingLoop([spec], Store(), Source(), folder, spec.training)  # type: ignore[arg-type]

    plain, here, halved = (
        loop(number, **training)
        for number, training in enumerate(
            ({}, {"buffer_device": "device"}, {"buffer_dtype": "bfloat16"})
        )
    )
    assert plain.key == here.key != halved.key
    assert "training.buffer_dtype" not in plain.terms, "as it was before there was a choice"
    assert halved.terms["training.buffer_dtype"] == "bfloat16"


def test_a_run_with_the_buffer_in_bfloat16_ends_where_one_in_float32_ends(tmp_path: Path) -> None:
    ends = [
        train(tmp_path / name, run_of(tokens=4000, buffer_dtype=name))[0]
        for name in ("float32", "bfloat16")
    ]
    assert ends[0].metrics["fvu"] == pytest.approx(ends[1].metrics["fvu"], abs=0.01)
    assert not torch.equal(ends[0].sae.W_dec, ends[1].sae.W_dec), "random activations are rounded"


class OnCard:
    """A source that says it reads bfloat16 on a device, and gives what ``planted`` has."""

    dtype = torch.bfloat16

    def __init__(self) -> None:
        self.plain, _, _ = planted(tokens=400, row=20)
        self.width = self.plain.width
        self.raw = 0

    def rows(self, rows: Any) -> Any:
        raise AssertionError("the stream takes what is there as it is")

    def raw_rows(self, rows: Any) -> Tensor:
        self.raw += 1
        return self.plain.rows(rows)[0].bfloat16()

    def flush(self) -> None:
        pass


def test_the_stream_takes_activations_as_they_are() -> None:
    source = OnCard()
    spec = TrainingSpec(batch_tokens=50, buffer_tokens=100, host_rows=2)
    stream = ActivationStream(source, np.arange(20), spec, placement=BF16_CPU)  # type: ignore[arg-type]
    assert stream.next_batch().shape == (50, source.width) and source.raw > 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
@pytest.mark.parametrize("where", ["device", "host"])
def test_on_a_card_batches_are_those_of_a_cpu(where: str) -> None:
    device = torch.device("cuda" if where == "device" else "cpu")
    plain, there = streams(ON_CPU, Placement(device, torch.bfloat16, torch.device("cuda")))
    for _ in range(40):
        batch = there.next_batch()
        assert batch.is_cuda and torch.equal(batch.cpu(), plain.next_batch())
