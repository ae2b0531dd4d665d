"""Our sites against TransformerBridge's, value by value, on tiny random models."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from monosemy.models import sites
from monosemy.models.host import HostModel
from tests.support.tiny_models import tiny_model

SEQUENTIAL = set(sites.KINDS)
PARALLEL = SEQUENTIAL - {sites.RESID_MID}
SHARED_NORM = PARALLEL - {sites.LN2_NORMALIZED}
NORM_BEHIND = SEQUENTIAL - {sites.LN2_NORMALIZED}
MIXTURE = SEQUENTIAL - {sites.MLP_POST}
NO_MLP_OF_ITS_OWN = SEQUENTIAL - {sites.LN2_NORMALIZED, sites.MLP_IN, sites.MLP_RAW}
"""BLOOM's MLP adds the stream itself, OPT keeps the layers of its MLP in the block."""

EXPECTED = {
    "llama": SEQUENTIAL,
    "gpt2": SEQUENTIAL,
    "gemma2": SEQUENTIAL,
    "gemma3": SEQUENTIAL,
    "qwen2": SEQUENTIAL,
    "qwen3": SEQUENTIAL,
    "olmo2": NORM_BEHIND,
    "neox-parallel": PARALLEL,
    "neox-sequential": SEQUENTIAL,
    "gptj": SHARED_NORM,
    "falcon": SHARED_NORM,
    "bloom": NO_MLP_OF_ITS_OWN,
    "opt": NO_MLP_OF_ITS_OWN,
    "mixtral": MIXTURE,
    "granite": {sites.RESID_PRE, sites.RESID_POST},
    "mamba": {sites.RESID_PRE, sites.RESID_POST},
}


@pytest.fixture(scope="module")
def saved_tokenizer(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The bridge loads the tokenizer again by its path, so it must have one."""
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("architecture", EXPECTED)
def test_every_site_equals_transformer_bridge(architecture: str, saved_tokenizer: Any) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    model = tiny_model(architecture, len(saved_tokenizer))
    bridge = TransformerBridge.boot_transformers(
        architecture,
        hf_model=copy.deepcopy(model),
        tokenizer=copy.deepcopy(saved_tokenizer),
        device="cpu",
    )
    ids_BS = torch.randint(3, len(saved_tokenizer), (2, 12))
    logits_BSV, cache = bridge.run_with_cache(ids_BS)
    host = HostModel.wrap(model, saved_tokenizer, architecture)
    ours = host.capture(ids_BS, torch.ones_like(ids_BS), host.sites())

    for layer in range(host.n_layers):
        kinds = {name.split(".", 2)[2] for name in ours if name.startswith(f"blocks.{layer}.")}
        assert kinds == EXPECTED[architecture]
    for name, value in ours.items():
        # The bridge keeps heads apart and flattens tokens before OPT's MLP.
        theirs = cache[name].reshape(value.shape)
        torch.testing.assert_close(value, theirs, rtol=1e-4, atol=1e-5 * float(value.abs().max()))
        assert host.site_width(name) == value.shape[-1]
    clean_BSV = host.logits(ids_BS, torch.ones_like(ids_BS))
    torch.testing.assert_close(clean_BSV, logits_BSV, rtol=1e-4, atol=1e-3)
