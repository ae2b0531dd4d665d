"""The Triton kernels without a card: run by the interpreter, compiled for sm_90, and left alone
where they cannot run.

Whether kernels are interpreted is settled when triton is imported, once per process, so both ways
have processes of their own.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import monosemy.native.gpu
from monosemy.native import largest as native_largest
from monosemy.native import rows as native_rows
from monosemy.native.gpu import device
from tests.support.campaign import wider

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "gpu_kernels"

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed (pip install 'monosemy[gpu]', Linux on x86-64 alone)",
)


def python(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MONOSEMY_NATIVE"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("chosen", ["not campaign", *wider("campaign")])
def test_in_the_interpreter(chosen: str) -> None:
    files = [str(file) for file in sorted(HERE.glob("interpreted_*.py"))]
    quiet = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", chosen]
    done = python([*quiet, *files], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "skipped" not in done.stdout


@needs_triton
@pytest.mark.campaign
def test_they_compile_for_a_hopper_card_without_spilling(tmp_path: Path) -> None:
    done = python(
        [str(HERE / "compiled.py")],
        TRITON_INTERPRET="0",
        TRITON_CACHE_DIR=str(tmp_path),
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    printed: list[dict[str, Any]] = json.loads(done.stdout)
    assert len({each["kernel"] for each in printed}) == 7
    for each in printed:
        assert each["stack"] == each["local"] == 0, each  # nothing spilled
        assert each["shared"] <= 48 << 10, each
        threads = 32 * each["warps"]
        assert 65_536 // (each["reg"] * threads) >= 2, each  # programs a multiprocessor holds
        assert each["wide_loads"], each
        assert not each["flushes"], each  # small numbers are not made 0


def test_on_the_cpu_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not device.ready(torch.device("cpu"))
    x = torch.zeros(2, 3)
    assert native_rows.weighted_sums(torch.zeros(2, 1, dtype=torch.int64), x[:, :1], x) is None
    assert not device.ready(torch.device("meta"))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device that says it is an H100; nothing is ever launched on it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setenv("MONOSEMY_NATIVE", "1")
    device._agrees.cache_clear()
    return torch.device("cuda", 0)


def agreement(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[torch.device]:
    """Puts ``answer`` in place of the check; the devices it was asked about."""
    asked: list[torch.device] = []

    class Check:
        @staticmethod
        def disagreement(where: torch.device) -> str:
            asked.append(where)
            return answer() if callable(answer) else answer

    monkeypatch.setitem(sys.modules, "monosemy.native.gpu.agreement", Check)
    return asked


def test_a_card_is_asked_once_and_can_be_switched_off(
    card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = agreement(monkeypatch, "")
    assert device.ready(card) and device.ready(card) and asked == [card]
    monkeypatch.setenv("MONOSEMY_NATIVE", "0")
    assert not device.ready(card)


def test_a_card_that_disagrees_or_fails_costs_no_run(
    card: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> str:
        raise RuntimeError("Failed to find C compiler")

    for answer, reason in (("wrong results in top-k", "wrong results"), (fails, "C compiler")):
        device._agrees.cache_clear()
        agreement(monkeypatch, answer)
        with caplog.at_level(logging.WARNING):
            assert not device.ready(card)
        assert reason in caplog.records[-1].getMessage()


def test_without_triton_tensor_operations_are_used(
    card: torch.device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in ("agreement", "largest", "rows"):
        monkeypatch.delitem(sys.modules, f"monosemy.native.gpu.{name}", raising=False)
        # What was imported before is a name of the package too.
        monkeypatch.delattr(monosemy.native.gpu, name, raising=False)
    with caplog.at_level(logging.INFO):
        assert not device.ready(card)
    assert "No Triton kernels" in caplog.text


def test_an_old_card_is_left_to_tensor_operations(
    card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = agreement(monkeypatch, "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not device.ready(card) and not asked


def test_importing_the_library_imports_no_triton() -> None:
    code = "import sys, monosemy.saes.topk, monosemy.saes.ragged; print('triton' in sys.modules)"
    assert python(["-c", code]).stdout.strip() == "False"


def test_dispatch_reads_the_device_of_what_it_is_given() -> None:
    """On the meta device there is no kernel, and asking must not fail."""
    pre = torch.zeros(4, 32, device="meta")
    assert native_largest.largest(pre, torch.zeros(32, device="meta"), 2) is None
