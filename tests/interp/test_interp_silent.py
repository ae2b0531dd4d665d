"""Features that never fired, that do not exist, and nothing at all, from a notebook."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import monosemy
from monosemy.data.token_bytes import TokenBytes
from monosemy.errors import DataError, JudgeError, SpecError
from monosemy.interp.texts import FeatureTexts
from monosemy.progress import Reporter
from monosemy.specs import IndexingSpec
from tests.support.interp_runs import judge
from tests.support.planted_index import PlantedStore, plant
from tests.support.stub_server import StubServer

LIVE, SILENT, ABSENT = 0, 4, 5
N_DOCUMENTS, ROW = 150, 12


class Store(PlantedStore):
    def token_bytes(self) -> TokenBytes:
        return TokenBytes([f" w{i}".encode() for i in range(50)])


class Logged(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, message: str, **fields: Any) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    """Features 0 to 3 fire everywhere, 4 nowhere."""
    n = N_DOCUMENTS * ROW
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((n, 5)) < 0.06, rng.gamma(2.0, 3.0, (n, 5)) + 0.1, -1.0)
    dense[:, SILENT] = -1.0
    documents = list(range(N_DOCUMENTS))
    store: Any = Store(rng.integers(0, 50, n), [ROW] * N_DOCUMENTS, documents)
    planted = plant(dense, [ROW] * N_DOCUMENTS, documents)._replace(store=store)
    planted.source.store = store
    store.folder = tmp_path_factory.mktemp("store")
    spec = IndexingSpec(window=4, top_examples=4, quantile_examples=2)
    return FeatureTexts(planted.build(tmp_path_factory.mktemp("silent") / "index", spec), store)


@pytest.fixture
def stub() -> Iterator[StubServer]:
    with StubServer(respond=judge) as server:
        yield server


def test_output_centric_explains_what_no_input_shows(texts: FeatureTexts, stub: StubServer) -> None:
    """As docs/interpretation.md says of it."""
    explanations = monosemy.explain(
        texts, [LIVE, SILENT], judge=stub.url, explainer="output_centric", reporter=Reporter()
    )
    assert sorted(explanations) == [LIVE, SILENT]
    assert explanations[SILENT].provenance["explainer"] == "output_centric"


@pytest.mark.parametrize("explainer", ["default", "contrastive", "ensemble"])
def test_one_silent_feature_holds_up_no_other(
    texts: FeatureTexts, stub: StubServer, explainer: str
) -> None:
    logged = Logged()
    explanations = monosemy.explain(
        texts,
        [SILENT, LIVE, ABSENT, LIVE],
        judge=stub.url,
        explainer=explainer,
        examples=3,
        reporter=logged,
    )
    assert sorted(explanations) == [LIVE]
    assert any(line.startswith(f"feature {SILENT}: ") for line in logged.lines)
    assert f"feature {ABSENT}: There is no feature 5: the SAE has 0 to 4." in logged.lines


def test_nothing_done_is_no_success(texts: FeatureTexts, stub: StubServer) -> None:
    for features in ([SILENT], [ABSENT], [SILENT, ABSENT]):
        with pytest.raises(JudgeError, match=f"None of {len(features)} features could be done"):
            monosemy.explain(texts, features, judge=stub.url, reporter=Reporter())
    with pytest.raises(DataError, match="nothing to explain"):
        monosemy.explain(texts, [], judge=stub.url, reporter=Reporter())
    with pytest.raises(DataError, match="nothing to score"):
        monosemy.score(texts, {}, judge=stub.url, reporter=Reporter())
    for features in ([-1], [2**31]):
        with pytest.raises(SpecError, match="indices"):
            monosemy.explain(texts, features, judge=stub.url, reporter=Reporter())
    assert stub.requests == []


@pytest.mark.parametrize("scorer", ["detection", "fuzzing", "intruder", "simulation"])
def test_scores_of_what_has_no_examples(
    texts: FeatureTexts, stub: StubServer, scorer: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    explanations = {SILENT: "Words for kings.", ABSENT: "Words for queens.", 1: "  "}
    with pytest.raises(JudgeError, match="None of 2 features"):
        monosemy.score(
            texts,
            {SILENT: explanations[SILENT], ABSENT: explanations[ABSENT]},
            judge=stub.url,
            scorer=scorer,
            reporter=Reporter(),
            **_few(scorer),
        )
    if scorer != "intruder":  # which needs no explanation
        with pytest.raises(JudgeError, match="says nothing"):
            monosemy.score(
                texts,
                {1: explanations[1]},
                judge=stub.url,
                scorer=scorer,
                reporter=Reporter(),
                **_few(scorer),
            )


def _few(scorer: str) -> dict[str, Any]:
    return {"positives": 3, "negatives": 3, "texts_per_call": 3, "shuffled_baseline": False}


def test_an_index_without_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        monosemy.explain(tmp_path / "nowhere", [0], judge="http://127.0.0.1:9/v1")
