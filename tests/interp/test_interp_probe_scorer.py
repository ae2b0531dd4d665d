"""The scorer by a probe: on a tiny host with a planted probe, and a real judge's stub."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.interp.judging.judge import Judge
from monosemy.interp.probe.escalation import NOTHING, Band
from monosemy.interp.probe.linear import Linear
from monosemy.interp.probe.probe import Probe
from monosemy.interp.probe.states import ProbeStates, pool
from monosemy.interp.probe.train import fit_probe
from monosemy.interp.registry import create_scorer
from monosemy.interp.scorers.base import result_of
from monosemy.interp.scorers.result import ScoreResult
from monosemy.interp.tools import Tools
from monosemy.specs import ScoringSpec
from monosemy.specs.parts import JudgeSpec
from monosemy.workspace import Workspace
from tests.support.interp_examples import negatives, positives, scoring_examples
from tests.support.planted_hosted_sae import long_host, planted_hosted_sae
from tests.support.planted_probe import planted
from tests.support.stub_server import Request, StubServer, good, texts_asked

EXAMPLES = scoring_examples(positives(6), negatives(6))


@pytest.fixture(scope="module")
def hosted(tiny_tokenizer: Any) -> HostedSAE:
    return planted_hosted_sae(long_host(tiny_tokenizer), 100)


@pytest.fixture(scope="module")
def probe(hosted: HostedSAE) -> Probe:
    """Right on every example: the least-norm solution of twelve equations."""
    reader = ProbeStates(hosted.host)
    view = f"{reader.sites[0]}:mean"
    x_ND = reader([("Cities", each.cropped(16).text) for _, each in EXAMPLES.with_tiers()])[view]
    truth_N = np.array([1.0] * 6 + [-1.0] * 6)
    weight_D = np.linalg.lstsq(x_ND, 6 * truth_N, rcond=None)[0]
    items, states = planted(0.3)
    trained = fit_probe(items, {"a": states}, reader.source())
    platt = replace(trained.platt, slope=1.0, shift=0.0)
    return replace(trained, view=view, model=Linear(weight_D, 0.0), platt=platt, band=NOTHING)


def score(probe: Probe, hosted: HostedSAE, folder: Path, stub: StubServer) -> ScoreResult:
    probe.save(folder / "probes" / "p")

    async def run() -> ScoreResult:
        async with Judge(stub.url, None, "stub", JudgeSpec()) as judge:
            tools = Tools(judge=judge, hosted=hosted, workspace=Workspace(folder))
            spec = ScoringSpec(scorer="probe", probe={"folder": "probes/p"})
            scorer = create_scorer(spec, tools)
            return result_of(scorer, await scorer.judge("Cities", EXAMPLES))

    return asyncio.run(run())


def always(answer: bool) -> Any:
    def respond(request: Request) -> Any:
        return good(**dict.fromkeys(texts_asked(request), answer))

    return respond


def test_a_sure_probe_asks_nobody(probe: Probe, hosted: HostedSAE, tmp_path: Path) -> None:
    with StubServer(respond=always(False)) as stub:
        found = score(probe, hosted, tmp_path, stub)
    assert found.value == 1.0
    assert found.usage.calls == 0
    assert found.details["escalated"] == 0


def test_unsure_ones_are_the_judges(probe: Probe, hosted: HostedSAE, tmp_path: Path) -> None:
    asked: list[str] = []

    def respond(request: Request) -> Any:
        asked.extend(texts_asked(request).values())
        return always(False)(request)

    with StubServer(respond=respond) as stub:
        found = score(replace(probe, band=Band(0.5, 1.0)), hosted, tmp_path, stub)
    # All six activating texts, and one other so that the judge meets both kinds.
    assert found.details["escalated"] == 7
    assert [j.answer for j in found.judgements] == [False] * 12
    assert found.value == 0.5
    assert len(asked) == 7


def test_probes_that_do_not_fit_are_refused(
    probe: Probe, hosted: HostedSAE, tmp_path: Path
) -> None:
    with StubServer(respond=always(True)) as stub:
        other = replace(probe, source={**probe.source, "fingerprint": "another"})
        with pytest.raises(DataError, match="was trained on"):
            score(other, hosted, tmp_path, stub)
        bad = replace(probe, report=replace(probe.report, gain=replace(probe.report.gain, low=0)))
        with pytest.raises(DataError, match="not shown to beat"):
            score(bad, hosted, tmp_path, stub)


def test_pooling_never_sees_padding() -> None:
    states = torch.tensor([[[9.0], [1.0], [3.0]], [[9.0], [5.0], [float("nan")]]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    assert pool(states, mask, "mean").tolist() == [[2.0], [5.0]]
    assert pool(states, mask, "last").tolist() == [[3.0], [5.0]]
