"""``gpu_check``'s parts that measure: speed and memory of ours, and of the peers beside ours."""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cuda_kernels
import text_to_sae
import torch
from gpu_check import Case, Figures, Options, Wrong
from gpu_check_numbers import SIZES

from monosemy.saes.registry import create
from monosemy.specs import TopKSpec, TrainingSpec
from monosemy.training.trainer import SAETrainer

_RUNS = 9

PEAKS = {
    "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "B200": 2250e12,
    "A100": 312e12, "A10G": 70e12, "A10": 125e12, "L40S": 362e12, "L4": 121e12, "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}  # fmt: skip
"""Operations a second in bfloat16, dense, by the makers' data sheets; the first name that is in the
card's counts."""


def peak(card: str) -> float | None:
    """What the maker says of a card by that name; None where that is not known here."""
    return next((peak for name, peak in PEAKS.items() if name in card), None)


def speed(options: Options) -> list[Case]:
    cases = []
    for size, shape in SIZES.items():
        cases.append(Case(f"step, {size}", partial(_step, shape, options)))
        cases.append(Case(f"kernels on and off, {size}", partial(_on_and_off, shape, options)))
    return [*cases, Case("from text to SAE", partial(_text, ["ours"], options))]


def peers(options: Options) -> list[Case]:
    cases = [
        Case(f"steps side by side, {size}", partial(_beside, shape, options))
        for size, shape in SIZES.items()
    ]
    return [*cases, Case("from text to SAE", partial(_text, ["ours", "saelens"], options))]


def our_step(x: torch.Tensor, d_sae: int, k: int) -> Callable[[], None]:
    """A TopK step, its product in bfloat16, as a run on a card takes it."""
    sae = create(TopKSpec(d_sae=d_sae, k=k), x.shape[1])
    sae.initialise(torch.Generator().manual_seed(0))
    sae = sae.to(x.device)
    sae.product_dtype = torch.bfloat16
    trainer = SAETrainer(sae, TrainingSpec())
    return lambda: trainer.step(x, 1, 1e-3, 1000)


def timed(work: Callable[[], object], device: str, runs: int = _RUNS) -> float:
    """Median seconds, after two rounds that compile and warm up."""
    times = [cuda_kernels.seconds(work, device) for _ in range(runs + 2)]
    return statistics.median(times[2:])


def _step(shape: tuple[int, ...], options: Options) -> Figures:
    n, d_in, d_sae, k = shape
    x = torch.randn(n, d_in, device=options.device)
    product = _product_seconds(x, d_sae, options)
    _forget(options)
    step = our_step(x, d_sae, k)
    seconds = timed(step, options.device)
    operations = 2 * n * d_in * d_sae
    figures: Figures = {
        "ms": 1e3 * seconds, "ms of the product": 1e3 * product, "products": seconds / product,
        "tokens/s": n / seconds, "operations/s of the product": operations / product,
    }  # fmt: skip
    most = peak(torch.cuda.get_device_name()) if options.device == "cuda" else None
    if most is not None:
        figures["the product's share of the peak"] = operations / product / most
        figures["the step's share of the peak"] = operations / seconds / most
    return figures | _memory(options)


def _product_seconds(x: torch.Tensor, d_sae: int, options: Options) -> float:
    left = x.bfloat16()
    right = torch.randn(x.shape[1], d_sae, device=x.device).bfloat16()
    return timed(lambda: left @ right, options.device)


def _on_and_off(shape: tuple[int, ...], options: Options) -> Figures:
    """``cuda_kernels``' table, in products."""
    n, d_in, d_sae, k = shape
    _forget(options)
    table = cuda_kernels.medians(
        cuda_kernels.parts(n, d_in, d_sae, k, options.device), _RUNS, options.device
    )
    unit = table[cuda_kernels.UNIT, "1"]
    figures = {
        f"{name}{'' if switch == '1' else ', off'}": seconds / unit
        for (name, switch), seconds in table.items()
        if name != cuda_kernels.UNIT
    }
    slower = [name for name in figures if f"{name}, off" in figures
              and figures[name] > 1.1 * figures[f"{name}, off"]]  # fmt: skip
    if slower:
        raise Wrong(f"slower with the kernels: {', '.join(slower)}", figures)
    return figures


def _beside(shape: tuple[int, ...], options: Options) -> Figures:
    """A TopK step of each, one library at a time (their weights need not fit beside each other),
    in the dtype that each trains in: ours with a bfloat16 product, theirs float32 and autocast."""
    from peers import SPARSIFY, saelens, sparsify

    n, d_in, d_sae, k = shape
    x = torch.randn(n, d_in, device=options.device)
    makers: dict[str, Callable[[], Callable[[], None]]] = {
        "ours": lambda: our_step(x, d_sae, k),
        "SAELens": lambda: saelens("topk", x, d_sae, k),
        "SAELens, autocast": lambda: _cast(saelens("topk", x, d_sae, k), options),
        SPARSIFY: lambda: sparsify(x, d_sae, k),
        f"{SPARSIFY}, autocast": lambda: _cast(sparsify(x, d_sae, k), options),
    }
    times: dict[str, list[float]] = {name: [] for name in makers}
    memory: Figures = {}
    for _ in range(3):
        for name, make in list(makers.items()):
            _forget(options)
            try:
                times[name].append(timed(make(), options.device, runs=3))
            except Exception as error:
                if name == "ours":
                    raise
                del makers[name], times[name]  # a peer that cannot is said, and asked no more
                memory[name] = f"did not run ({type(error).__name__})"
                continue
            memory |= {f"{name} {key}": value for key, value in _memory(options).items()}
    middle = {name: statistics.median(values) for name, values in times.items()}
    ratios = {
        f"{name}, times ours": value / middle["ours"]
        for name, value in middle.items()
        if name != "ours"
    }
    return {f"{name} ms": 1e3 * value for name, value in middle.items()} | ratios | memory


def _cast(step: Callable[[], None], options: Options) -> Callable[[], None]:
    def cast() -> None:
        with torch.autocast(options.device, torch.bfloat16):
            step()

    return cast


def _text(names: list[str], options: Options) -> Figures:
    """``text_to_sae`` in bfloat16: SmolLM2-135M, d_sae 16,384."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as models:
        asked = argparse.Namespace(
            tokens=options.tokens, d_sae=16_384, dtype="bfloat16", device=options.device
        )
        for name in names:
            text_to_sae.measure(name, _shorter(asked), Path(models))  # exports, compiles, warms up
            result = text_to_sae.measure(name, asked, Path(models))
            figures[f"{name} tokens/s"] = options.tokens / result.pop("seconds")
            figures |= {f"{name} {key}": value for key, value in result.items()}
            print(f"{name}: {figures[f'{name} tokens/s']:,.0f} tokens/s", file=sys.stderr)
    return figures


def _shorter(asked: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(asked), "tokens": 4096})


def _forget(options: Options) -> None:
    gc.collect()
    if options.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory(options: Options) -> Figures:
    if options.device != "cuda":
        return {}
    return {"MB at most": torch.cuda.max_memory_allocated() / 2**20}
