"""Two processes that share batches, or a dictionary, end where one process ends."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from monosemy.specs import SAESpec
from tests.support import two_processes
from tests.support.child_process import ChildProcess
from tests.support.patience import wait_for
from tests.support.two_processes import DEVICE, SHARED_BATCH, SHARED_DICTIONARY, F, alone

SCRIPT = Path(two_processes.__file__)

CLOSE = 1e-5 if DEVICE == "cpu" else 1e-4
"""Sums on a card come in another order from one size to the next."""

Found = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of the two found, by case and tensor."""
    folder = tmp_path_factory.mktemp("two")
    with ExitStack() as running:
        ranks = [
            running.enter_context(
                ChildProcess(
                    [sys.executable, str(SCRIPT), str(rank), str(folder)], folder / f"{rank}.log"
                )
            )
            for rank in (0, 1)
        ]
        # One that has failed leaves the other waiting.
        wait_for(lambda: all(rank.succeeded() for rank in ranks), 240)
    results: list[Found] = []
    for rank in (0, 1):
        cases: Found = {}
        for name, value in load_file(folder / f"{rank}.safetensors").items():
            case, tensor = name.split("/")
            cases.setdefault(case, {})[tensor] = value
        results.append(cases)
    return results


def check(case: str, spec: SAESpec, both: list[Found]) -> None:
    wanted = alone(spec)
    for name, value in both[0][case].items():
        assert torch.equal(value, both[1][case][name]), f"{name} differs between the two"
        torch.testing.assert_close(value, wanted[name], rtol=CLOSE, atol=CLOSE, msg=name)
    assert both[0][case].keys() == wanted.keys()


@pytest.mark.parametrize("case", SHARED_BATCH)
def test_a_shared_batch(case: str, both: list[Found]) -> None:
    check(case, SHARED_BATCH[case], both)


@pytest.mark.parametrize("case", SHARED_DICTIONARY)
def test_a_shared_dictionary(case: str, both: list[Found]) -> None:
    check(f"split {case}", SHARED_DICTIONARY[case], both)


def test_the_cases_try_what_they_claim() -> None:
    few, most = (alone(SHARED_DICTIONARY[case]) for case in ("topk, few dead", "topk, most dead"))
    assert "readings.auxk" in most and float(most["readings.dead_share"]) * F > 3
    assert not torch.equal(few["W_dec"], most["W_dec"])
    assert float(alone(SHARED_BATCH["batchtopk"])["threshold"][0]) > 0
