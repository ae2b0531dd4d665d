"""What many tests share: a tiny host model and a tiny text, made on the spot.

torch and transformers are imported inside the fixtures, so tests that use neither do not pay.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.tiny_host import make_tiny_host, make_tiny_tokenizer
from tests.support.tiny_text import tiny_documents

if TYPE_CHECKING:
    from monosemy.data.store import TokenStore
    from monosemy.models.host import HostModel
    from monosemy.specs import TextSpec

pytest_plugins = ["tests.support.durations", "tests.support.fixtures_database"]

# How long an example takes to make or to run depends on what else the machine does.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("busy")

# What a test starts imports the checkout that is tested, and its ``tests``, wherever it runs.
_ROOT = str(Path(__file__).resolve().parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([_ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)

# Set before anything imports numpy or torch: tests run beside one another on few cores.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
# Stubs of judges answer what a test is about; planted questions are asked where they are tested.
os.environ["MONOSEMY_JUDGE_TEST"] = "skip"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """``-n auto``: one more than there are cores, since half of the time is waiting for servers;
    each has a PostgreSQL of its own and may hold a model, so not more than eight."""
    from monosemy.threads import usable_cores

    return min(usable_cores() + 1, 8)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, lest one process is left with them at the end."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    """A test that leaves a signal handler behind would have a later one stop the whole process."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    left = {number: signal.getsignal(number) for number in usual}
    for number, handler in usual.items():
        signal.signal(number, handler)
    assert left == usual


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """Byte-level BPE of 400 tokens; <s>, </s>, <pad> are 0, 1, 2."""
    return make_tiny_tokenizer()


@pytest.fixture(scope="session")
def tiny_host(tiny_tokenizer: Any) -> HostModel:
    """A random Llama: 4 blocks, d_model 32, 4 heads over 2 key-value heads, float32, seeded."""
    import torch

    torch.set_num_threads(1)
    return make_tiny_host(tiny_tokenizer)


@pytest.fixture(scope="session")
def host_folder(tiny_host: HostModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny host model as a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_host.model.save_pretrained(folder)
    tiny_host.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> TextSpec:
    """48 small documents in a .jsonl file, rows of 32 tokens."""
    from monosemy.specs import TextSpec

    file: Path = tmp_path_factory.mktemp("text") / "tiny.jsonl"
    lines = [
        json.dumps({"title": f"document {number}", "text": text})
        for number, text in enumerate(tiny_documents())
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return TextSpec(source=str(file), context_size=32, heldout_fraction=0.2)


@pytest.fixture(scope="session")
def tiny_store(
    tiny_host: HostModel, tiny_text: TextSpec, tmp_path_factory: pytest.TempPathFactory
) -> TokenStore:
    """Token store of ``tiny_text`` (a few thousand tokens)."""
    from monosemy.data.store import TokenStore

    folder = tmp_path_factory.mktemp("store") / "tiny"
    return TokenStore.build(tiny_text, tiny_host, folder)
