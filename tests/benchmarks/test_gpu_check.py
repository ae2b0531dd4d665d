"""``make gpu-check`` without a card: its losses are the CPU's own, it tells what is wrong, goes on
where it stood, and says in a line what it lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import gpu_check
import gpu_check_numbers

ROOT = Path(__file__).parents[2]
OPTIONS = gpu_check.Options(device="cpu", steps=6, tokens=100)


def results(folder: Path, **about: Any) -> gpu_check.Results:
    known = {"card": "no card", "machine": "this", "cuda": None, "code": "c", "device": "cpu"}
    return gpu_check.Results(folder, {**known, **about})


def losses(folder: Path, only: str, seconds: float = 300) -> int:
    return gpu_check.run_part("losses", OPTIONS, results(folder), seconds, only)


@pytest.mark.parametrize("only", ["topk, bfloat16", "jumprelu, float32", "buffer", "whole"])
def test_losses_are_those_of_the_cpu(only: str, tmp_path: Path) -> None:
    assert losses(tmp_path, only) == gpu_check.PASSED
    current = results(tmp_path).current()
    assert current and all(entry["figures"] and not entry["wrong"] for entry in current.values())


def test_every_architecture_is_among_the_cases() -> None:
    names = {case.name.split(", ")[0] for case in gpu_check_numbers.losses(OPTIONS)}
    assert names >= set(gpu_check_numbers.ARCHITECTURES)


def test_another_loss_is_seen_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = gpu_check_numbers.SAETrainer.step

    def weaker(self: Any, x: torch.Tensor, number: int, rate: float, *more: Any) -> None:
        halved = self.sae.product_dtype == torch.bfloat16
        plain(self, x, number, rate / 2 if halved else rate, *more)

    with monkeypatch.context() as patch:
        patch.setattr(gpu_check_numbers.SAETrainer, "step", weaker)
        assert losses(tmp_path, "topk, bfloat16") == gpu_check.FAILED
    assert "off by more than 0.01" in capsys.readouterr().out
    assert "off by more than" in gpu_check.report(results(tmp_path))
    assert losses(tmp_path, "topk, bfloat16") == gpu_check.PASSED


def cases(monkeypatch: pytest.MonkeyPatch, *more: Any) -> list[str]:
    """Puts three cases in the place of a part's; the names of those that ran."""
    ran: list[str] = []

    def case(name: str) -> gpu_check.Case:
        def run() -> dict[str, Any]:
            ran.append(name)
            for action in more:
                action(name)
            return {"value": 1.5}

        return gpu_check.Case(name, run)

    made_cases = [case(name) for name in "abc"]
    monkeypatch.setattr(gpu_check, "cases_of", lambda *_: made_cases)
    return ran


def test_what_has_passed_is_not_done_again_unless_it_is_of_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(name: str) -> None:
        if name == "b" and ran.count("b") == 1:
            raise RuntimeError("a driver\nand more")

    ran = cases(monkeypatch, breaks)
    assert losses(tmp_path, "") == gpu_check.FAILED and ran == ["a", "b", "c"]
    assert "RuntimeError: a driver |" in gpu_check.report(results(tmp_path))
    assert losses(tmp_path, "") == gpu_check.PASSED and ran == ["a", "b", "c", "b"]
    other = results(tmp_path, code="d")
    assert gpu_check.run_part("losses", OPTIONS, other, 300) == gpu_check.PASSED
    assert ran[4:] == ["a", "b", "c"]


def test_a_part_ends_when_its_time_is_over_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(name: str) -> None:
        if name == "b" and ran.count("b") == 1:
            raise gpu_check.TimeOver  # as the alarm does

    ran = cases(monkeypatch, ends)
    assert losses(tmp_path, "") == gpu_check.UNFINISHED and ran == ["a", "b"]
    assert losses(tmp_path, "") == gpu_check.PASSED and ran == ["a", "b", "b", "c"]
    with pytest.raises(gpu_check.TimeOver), gpu_check.at_most(0.01):
        while True:
            pass


def test_without_a_card_it_says_so_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for part in ("kernels", "speed", "peers", "processes"):
        assert gpu_check.run_part(part, OPTIONS, results(tmp_path), 9) == gpu_check.NO_CARD
        assert len(capsys.readouterr().out.splitlines()) == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_check.lacking("processes", "cuda") == "processes: needs two cards, 1 is here"
    assert not gpu_check.lacking("kernels", "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_the_command_runs_offline_and_writes_a_report(tmp_path: Path) -> None:
    script = [sys.executable, "benchmarks/gpu_check.py", "--out", str(tmp_path), "--steps", "3"]
    ended = subprocess.run(
        [*script, "--only", "topk, float32"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == gpu_check.NO_CARD, ended.stderr  # losses passed, the others cannot
    assert "passed" in ended.stdout and "kernels: needs a card" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "gpu-check: exit 2, no card"
    entries = json.loads((tmp_path / "results.json").read_text())
    assert {"losses/topk, float32 product", "losses/batchtopk, float32 product"} == set(entries)
    report = (tmp_path / "report.md").read_text()
    assert "| topk, float32 product | passed |" in report and "## speed" in report


def test_without_torch_there_is_one_line(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
    (tmp_path / "torch.py").write_text(missing)
    ended = subprocess.run(
        [sys.executable, "benchmarks/gpu_check.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == gpu_check.NO_CARD and not ended.stderr
    [line] = ended.stdout.splitlines()
    assert line.startswith("gpu-check: exit 2, torch is not installed")
