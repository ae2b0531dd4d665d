"""``gpu_check``'s parts that compare numbers: kernels, losses, two processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_check import ROOT, Case, Figures, Options, Wrong
from torch import Tensor

from monosemy.native import largest as native_largest
from monosemy.native.gpu import device as gpu_device
from monosemy.saes.registry import create
from monosemy.saes.sparse_ops import row_products, scatter_rows, weighted_rows
from monosemy.specs import ARCHITECTURES, SAESpec, TrainingSpec, TrainRun
from monosemy.training.buffer import ON_CPU, Placement
from monosemy.training.stream import ActivationStream
from monosemy.training.train import train_sae
from monosemy.training.trainer import SAETrainer

SIZES = {"small": (2048, 576, 16_384, 32), "large": (8192, 2304, 65_536, 64)}
"""Tokens, d_in, d_sae, k: those of docs/performance.md."""

_INTERPRETED = {"tiny": (64, 48, 512, 8)}

N, D, D_OUT, F, K = 512, 64, 48, 512, 8
"""Of ``losses``."""

_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 1e-2}
"""Largest relative difference of a loss: the order of sums, and of bfloat16 its 8 bits, decide
now and then which of two latents is chosen."""

_DTYPES = (torch.float32, torch.bfloat16)


def kernels(options: Options) -> list[Case]:
    """Every kernel at both sizes; the small case that a device has to pass at its first use."""
    sizes = SIZES if options.device == "cuda" else _INTERPRETED
    device = torch.device(options.device)
    cases = [Case("agreement", partial(_agreement, device))]
    for size, shape in sizes.items():
        for dtype in _DTYPES:
            short = str(dtype).removeprefix("torch.")
            cases.append(Case(f"top-k, {size}, {short}", partial(_top_k, device, shape, dtype)))
            cases.append(Case(f"rows, {size}, {short}", partial(_rows, device, shape, dtype)))
    return cases


def _agreement(device: torch.device) -> Figures:
    from monosemy.native.gpu.agreement import disagreement

    wrong = disagreement(device)
    if wrong:
        raise Wrong(wrong, {})
    if not gpu_device.ready(device):
        raise Wrong("the kernels are not used on this device", {})
    return {}


def _top_k(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> Figures:
    n, _, d_sae, k = shape
    generator = torch.Generator(device).manual_seed(0)
    pre = torch.randn(n, d_sae, generator=generator, device=device, dtype=torch.float32).to(dtype)
    bias = torch.randn(d_sae, generator=generator, device=device) / 10
    chosen = native_largest.largest(pre, bias, k)
    if chosen is None:
        raise Wrong("no kernel took it", {})
    values, indices = chosen
    off = 0
    for rows in torch.arange(n, device=device).split(1024):
        whole = pre[rows].float() + bias
        wanted = whole.topk(k, dim=1).values
        mine = values[rows].sort(1, descending=True).values
        picked = whole.gather(1, indices[rows]).sort(1, descending=True).values
        off += int((mine != wanted).sum() + (picked != wanted).sum())
    figures = {"values that differ": off}
    if off:
        raise Wrong("not the k largest", figures)
    return figures


def _rows(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> Figures:
    """Sums of rows, products with rows, sums by latent, beside float64 where that is affordable."""
    n, d_in, d_sae, k = shape
    generator = torch.Generator(device).manual_seed(1)

    def numbers(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device)

    x, weights = numbers(n, d_in), numbers(n, k)
    rows = (numbers(d_sae, d_in) * d_in**-0.5).to(dtype)
    indices = torch.randint(d_sae, (n, k), generator=generator, device=device)
    indices[:, 0] = 7  # a latent that fires on every token
    some = slice(0, min(n, 128))
    picked = rows[indices[some]].double()
    sums = torch.einsum("nk,nkd->nd", weights[some].to(rows.dtype).double(), picked)
    products = torch.einsum("nd,nkd->nk", x[some].double(), picked)
    gradient = scatter_rows(indices, weights, x, d_sae)
    latents = [7, *torch.randint(d_sae, (15,)).tolist()]
    dense = torch.stack([(weights * (indices == latent)).sum(1) for latent in latents]).double()
    figures = {
        "sums": _error(weighted_rows(indices, weights.to(rows.dtype), rows)[some], sums),
        "products": _error(row_products(indices, x, rows)[some], products),
        "sums by latent": _error(gradient[latents], dense @ x.double()),
        "equal bits again": torch.equal(gradient, scatter_rows(indices, weights, x, d_sae)),
    }
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    if max(figures["sums"], figures["products"]) > limit or figures["sums by latent"] > 1e-5:
        raise Wrong(f"off by more than {limit:g}", figures)
    if not figures["equal bits again"]:
        raise Wrong("a gradient is not the same twice", figures)
    return figures


def _error(mine: Tensor, wanted: Tensor) -> float:
    return float((mine.double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


def losses(options: Options) -> list[Case]:
    """Every architecture beside the CPU in float32; the buffer's batches; a whole run."""
    cases = [
        Case(
            f"{name}, {str(dtype).removeprefix('torch.')} product",
            partial(_architecture, name, dtype, options),
        )
        for name in sorted(ARCHITECTURES)
        for dtype in _DTYPES
    ]
    for where in ("device", "host"):
        cases.append(Case(f"buffer, {where}", partial(_buffer, where, options)))
    return [*cases, Case("whole run", partial(_whole_run, options))]


def spec_of(name: str) -> SAESpec:
    """An SAE of the architecture, small."""
    kind = ARCHITECTURES[name]
    sized = {
        "k": K, "target_l0": float(K), "prefixes": [F // 8, F // 2],
        "target_site": "blocks.1.hook_mlp_out", "places": 2,
    }  # fmt: skip
    fields = {field: value for field, value in sized.items() if field in kind.model_fields}
    return kind(d_sae=F, dead_after_tokens=8 * N, **fields)


def batches(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Sparse sums of fixed directions about an offset, and a linear map of them."""
    generator = torch.Generator().manual_seed(1)
    atoms = torch.nn.functional.normalize(torch.randn(2 * D, D, generator=generator), dim=1)
    onto = torch.randn(D, D_OUT, generator=generator) * D**-0.5
    batches = []
    for _ in range(steps):
        firing = torch.rand(N, 2 * D, generator=generator) < 0.06
        x = (firing * (1 + torch.rand(N, 2 * D, generator=generator))) @ atoms * D**0.5 / 3 + 0.5
        batches.append((x, x @ onto))
    return batches


@lru_cache(maxsize=1)
def reference(name: str, steps: int) -> tuple[list[float], float]:
    """``curve`` on the CPU in float32: what both dtypes are held to."""
    return curve(name, steps, torch.device("cpu"), torch.float32)


def curve(
    name: str, steps: int, device: torch.device, dtype: torch.dtype, threads: int | None = None
) -> tuple[list[float], float]:
    """The running mean of the loss after each step, and the last L0."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        spec = spec_of(name)
        transcodes = name == "transcoder"
        sae = create(spec, D, D_OUT if transcodes else None)
        sae.initialise(torch.Generator().manual_seed(0))
        sae = sae.to(device)
        given = [(x.to(device), y.to(device)) for x, y in batches(steps)]
        sae.begin(given[0][0])
        sae.product_dtype = dtype
        trainer = SAETrainer(sae, TrainingSpec())
        readings, losses = {}, []
        for number, (x, y) in enumerate(given):
            trainer.step(x, number, 2e-3, steps, y if transcodes else None)
            readings = trainer.readings()
            losses.append(readings["loss"])
        return losses, readings["l0"]
    finally:
        torch.set_num_threads(before)


def _architecture(name: str, dtype: torch.dtype, options: Options) -> Figures:
    device = torch.device(options.device)
    wanted, l0 = reference(name, options.steps)
    alone = 1 if device.type == "cpu" else None
    mine, own_l0 = curve(name, options.steps, device, dtype, alone)
    off = max(abs(a - b) / abs(b) for a, b in zip(mine, wanted, strict=True))
    figures = {
        "loss at first": wanted[0], "at last": wanted[-1], "off by at most": off,
        "L0": own_l0, "L0 on the CPU": l0,
    }  # fmt: skip
    if not off <= _TOLERANCE[dtype]:
        raise Wrong(f"the losses are off by more than {_TOLERANCE[dtype]:g}", figures)
    if wanted[-1] >= wanted[0] or mine[-1] >= mine[0]:
        raise Wrong("nothing is learnt", figures)
    return figures


class _Rows:
    """bfloat16 activations on a device, in rows of 20 tokens, some of them too long."""

    dtype = torch.bfloat16

    def __init__(self, device: torch.device, tokens: int = 4000, width: int = 32) -> None:
        acts = torch.randn(tokens, width, generator=torch.Generator().manual_seed(2))
        acts[::500] *= 64
        self.acts, self.width = acts.bfloat16().to(device), width

    def raw_rows(self, rows: np.ndarray) -> Tensor:
        places = torch.from_numpy((rows[:, None] * 20 + np.arange(20)).reshape(-1))
        return self.acts[places.to(self.acts.device)]

    def rows(self, rows: np.ndarray) -> tuple[Tensor, np.ndarray]:
        return self.raw_rows(rows).float().cpu(), rows

    def flush(self) -> None:
        pass


def _buffer(where: str, options: Options) -> Figures:
    """Batches out of a buffer in bfloat16 have the bits of those of one in float32 on the CPU."""
    device = torch.device(options.device)
    there = Placement(device if where == "device" else torch.device("cpu"), torch.bfloat16, device)
    spec = TrainingSpec(batch_tokens=64, buffer_tokens=640)
    plain, own = (
        ActivationStream(_Rows(on), np.arange(200), spec, placement=placement)
        for on, placement in ((torch.device("cpu"), ON_CPU), (device, there))
    )
    count = 150
    same = sum(torch.equal(own.next_batch().cpu(), plain.next_batch()) for _ in range(count))
    figures = {"equal batches": same, "of": count, "left out": own.outliers}
    if same != count or own.outliers != plain.outliers or not own.outliers:
        raise Wrong("the batches are not those of the CPU", figures)
    return figures


def _whole_run(options: Options) -> Figures:
    """A training from the stream to the SAE: on the device with its buffer in bfloat16, and on the
    CPU in float32."""
    from tests.support.planted import planted

    ends = []
    for device, dtype in ((options.device, "bfloat16"), ("cpu", "float32")):
        source, store, _ = planted()
        spec = TrainRun(
            model={"name": "none", "dtype": "float32", "device": device},  # type: ignore[arg-type]
            site="blocks.0.hook_resid_post",
            sae=ARCHITECTURES["topk"](d_sae=96, k=3),
            training=TrainingSpec(
                tokens=40_000, batch_tokens=200, buffer_tokens=4000, buffer_dtype=dtype
            ),
        )
        with tempfile.TemporaryDirectory() as folder:
            ends.append(train_sae(spec, store, source, Path(folder)).metrics["fvu"])
    figures = {"FVU": ends[0], "FVU on the CPU": ends[1]}
    if not abs(ends[0] - ends[1]) <= 0.02:
        raise Wrong("the FVU is another one", figures)
    return figures


def processes(options: Options) -> list[Case]:  # noqa: ARG001
    """The tests of two processes that share batches or a dictionary, each on a card of its own."""
    return [Case("two processes over NCCL", _two_processes)]


def _two_processes() -> Figures:
    test = "tests/training/test_distributed_steps.py"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MONOSEMY_TEST_DEVICE": "cuda"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    last: dict[str, Any] = {"pytest": (ended.stdout.strip().splitlines() or [""])[-1]}
    if ended.returncode:
        raise Wrong("the two do not end where one ends", last)
    return last
