"""A host model that frees the layers above its sites, and reads them again when they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from monosemy.errors import ModelError
from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from tests.support.tiny_models import tiny_model

SITE = "blocks.1.hook_resid_post"


@pytest.fixture(params=["llama", "gpt2", "gemma2"])
def folder(request: pytest.FixtureRequest, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    tiny_model(request.param, len(tiny_tokenizer)).save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path) -> HostModel:
    spec = ModelSpec(name=str(folder), dtype="float32", device="cpu")
    return HostModel.load(spec, Workspace(folder.parent / "home"))


def ids() -> Tensor:
    return torch.randint(3, 300, (2, 12), generator=torch.Generator().manual_seed(0))


def held(host: HostModel) -> int:
    return sum(value.numel() for value in host.model.parameters() if not value.is_meta)


def test_what_lies_above_is_freed_and_what_lies_below_runs_on(folder: Path) -> None:
    host, whole = load(folder), load(folder)
    mask = torch.ones_like(ids())
    host.keep_up_to([SITE, "blocks.0.hook_resid_post"])
    freed = held(whole) - held(host)
    above = whole._trunk.blocks[2:]
    assert freed >= sum(value.numel() for value in above.parameters()) > 0
    for site, acts in host.capture(ids(), mask, [SITE]).items():
        torch.testing.assert_close(acts, whole.capture(ids(), mask, [site])[site], rtol=0, atol=0)
    assert held(host) == held(whole) - freed, "reading what is there brings nothing back"


def test_the_rest_comes_back_when_something_asks_for_it(folder: Path) -> None:
    whole = load(folder)
    mask = torch.ones_like(ids())
    last = whole.sites()[-1]
    asks = {
        "logits": lambda host: host.logits(ids(), mask),
        "unembedding": lambda host: host.unembedding()[0],
        "a deeper site": lambda host: host.capture(ids(), mask, [last])[last],
        "fingerprint": lambda host: torch.tensor([int(host.fingerprint, 16) % 2**31]),
    }
    for what, ask in asks.items():
        host = load(folder)
        host.keep_up_to([SITE])
        torch.testing.assert_close(ask(host), ask(whole), rtol=0, atol=0, msg=what)
    assert not any(value.is_meta for value in whole.model.parameters())


def test_a_model_whose_files_have_changed_is_not_patched_together(folder: Path) -> None:
    host = load(folder)
    host.keep_up_to([SITE])
    other = load(folder).model
    with torch.no_grad():
        next(other.parameters()).add_(1)
    other.save_pretrained(folder)
    with pytest.raises(ModelError, match="have changed"):
        host.logits(ids(), torch.ones_like(ids()))
    acts = host.capture(ids(), torch.ones_like(ids()), [SITE])[SITE]
    assert acts.isfinite().all(), "what is here still runs"


def test_a_wrapped_model_stays_whole(tiny_tokenizer: Any) -> None:
    host = HostModel.wrap(tiny_model("llama", len(tiny_tokenizer)), tiny_tokenizer, "mine")
    before = held(host)
    host.keep_up_to(["blocks.0.hook_resid_post"])
    assert held(host) == before
