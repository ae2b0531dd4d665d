"""What a host model's fingerprint sees, and what it does not mind."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import normalizers

from monosemy.errors import ModelError
from monosemy.models import resolve
from monosemy.models.fingerprint import changed_parts, model_stamp, sampled_fingerprint
from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec
from monosemy.workspace import Kind, Workspace
from tests.support.tiny_models import tiny_model


@pytest.fixture(scope="module")
def model(tiny_tokenizer: Any) -> Any:
    return tiny_model("llama", len(tiny_tokenizer))


@pytest.fixture(scope="module")
def folder(model: Any, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hosts") / "tiny"
    model.save_pretrained(place)
    tiny_tokenizer.save_pretrained(place)
    return place


def load(folder: Path, dtype: str = "float32") -> HostModel:
    spec = ModelSpec(name=str(folder), dtype=dtype, device="cpu")
    return HostModel.load(spec, Workspace(folder.parent / "home"))


def test_one_ulp_of_any_parameter_is_seen_and_told_by_its_block(
    model: Any, tiny_tokenizer: Any
) -> None:
    before = model_stamp(model, tiny_tokenizer)
    sampled = sampled_fingerprint(model, tiny_tokenizer)
    unseen = 0
    for name, value in model.named_parameters():
        flat = value.data.view(-1)
        kept = flat[-1].clone()
        flat[-1] = torch.nextafter(kept, kept + 1)
        after = model_stamp(model, tiny_tokenizer)
        unseen += sampled_fingerprint(model, tiny_tokenizer) == sampled
        flat[-1] = kept
        (part,) = changed_parts(before.parts, after.parts)
        assert after.fingerprint != before.fingerprint
        block = name.split(".")[2] if ".layers." in name else None
        assert part == (f"weights of blocks.{block}" if block else f"weights of {name[:-7]}"), name
    assert unseen > 0, "the first form did not see them"
    assert model_stamp(model, tiny_tokenizer) == before


@pytest.mark.parametrize("architecture", ["gpt2", "gemma2", "mixtral", "mamba"])
def test_loaded_or_handed_over_parts_are_named_and_stable(
    architecture: str, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    made = tiny_model(architecture, len(tiny_tokenizer))
    made.save_pretrained(tmp_path / "m")
    tiny_tokenizer.save_pretrained(tmp_path / "m")
    spec = ModelSpec(name=str(tmp_path / "m"), dtype="float32", device="cpu")
    place = resolve.locate(spec, Workspace(tmp_path))
    one, two = (resolve.open_model(place, spec) for _ in range(2))
    assert model_stamp(*one) == model_stamp(*two)


def test_buffers_count_and_frequencies_where_the_configuration_does_not_give_them(
    tiny_tokenizer: Any,
) -> None:
    def changed(change: Callable[[Any], None]) -> list[str]:
        made = tiny_model("llama", len(tiny_tokenizer))
        made.register_buffer("gain", torch.ones(3))
        before = model_stamp(made, tiny_tokenizer)
        change(made)
        return changed_parts(before.parts, model_stamp(made, tiny_tokenizer).parts)

    def ulp(made: Any) -> None:
        made.gain[1] = torch.nextafter(made.gain[1], torch.tensor(2.0))

    assert changed(ulp) == ["weights of gain"]
    assert changed(lambda made: made.model.rotary_emb.inv_freq.mul_(1.1)) == [
        "weights of model.rotary_emb"
    ]
    assert changed(lambda made: made.model.rotary_emb.inv_freq.mul_(1 + 1e-7)) == []
    assert changed(lambda made: setattr(made.config, "rms_norm_eps", 1e-3)) == ["configuration"]
    assert changed(lambda made: setattr(made.config, "use_cache", False)) == []


class Lora(torch.nn.Module):
    """As PEFT wraps a layer."""

    def __init__(self, base_layer: Any) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(32, 2, bias=False)})
        self.scaling, self.active_adapters = {"default": 2.0}, ["default"]


def test_an_adapter_counts_with_its_tensors_and_its_strength(tiny_tokenizer: Any) -> None:
    made = tiny_model("llama", len(tiny_tokenizer))
    made.model.layers[0].mlp.gate_proj = lora = Lora(made.model.layers[0].mlp.gate_proj)
    before = model_stamp(made, tiny_tokenizer)
    lora.scaling["default"] = 1.0
    assert changed_parts(before.parts, model_stamp(made, tiny_tokenizer).parts) == [
        "adapters' settings"
    ]
    lora.scaling["default"] = 2.0
    lora.lora_A["default"].weight.data[0, 0] += 1e-6
    assert changed_parts(before.parts, model_stamp(made, tiny_tokenizer).parts) == ["adapters"]


def _normaliser(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("tokenizer", _normaliser),
        ("tokenizer", lambda tokenizer: tokenizer.add_tokens(["harbour"])),
        ("special tokens", lambda tokenizer: setattr(tokenizer, "eos_token", "<pad>")),
        ("chat template", lambda tokenizer: setattr(tokenizer, "chat_template", "{{ 1 }}")),
    ],
)
def test_the_whole_tokenizer_counts(
    model: Any, tiny_tokenizer: Any, part: str, change: Callable[[Any], None]
) -> None:
    before = model_stamp(model, tiny_tokenizer)
    other = copy.deepcopy(tiny_tokenizer)
    assert model_stamp(model, other) == before
    other(["one", "two three"], padding=True, truncation=True, max_length=4)
    assert model_stamp(model, other) == before, "what a call leaves behind is no change"
    change(other)
    assert part in changed_parts(before.parts, model_stamp(model, other).parts)


def test_saving_again_sharding_moving_and_dtype_change_nothing(
    model: Any, tiny_tokenizer: Any, folder: Path, tmp_path: Path
) -> None:
    host = load(folder)
    assert host.fingerprint == HostModel.wrap(model, tiny_tokenizer, "x").fingerprint
    for dtype in ("bfloat16", "float16"):
        rounded = load(folder, dtype)
        assert rounded.stamp == host.stamp, dtype
    moved = tmp_path / "elsewhere"
    host.model.save_pretrained(moved, max_shard_size="20KB")
    host.tokenizer.save_pretrained(moved)
    assert len(list(moved.glob("*.safetensors"))) > 1
    assert load(moved).stamp == host.stamp
    assert load(moved, "bfloat16").stamp == host.stamp


def test_what_has_changed_is_said_in_few_words(folder: Path, tiny_tokenizer: Any) -> None:
    host = load(folder)
    info = json.loads(json.dumps(host.info()))
    assert host.changes_since(info) == [] == host.changes_since({})
    first = {"fingerprint": host.sampled_fingerprint, "d_model": 48}
    assert host.changes_since(first) == []
    assert host.changes_since({**first, "fingerprint": "0" * 16}) == [
        "d_model 48, now 32",
        "weights or vocabulary",
    ]
    other = tiny_model("llama", len(tiny_tokenizer))
    with torch.no_grad():
        for layer in other.model.layers:
            layer.mlp.down_proj.weight[0, 0] += 1e-6
        assert HostModel.wrap(other, tiny_tokenizer, "x").changes_since(info) == [
            "weights of blocks.0",
            "weights of blocks.1",
            "weights of blocks.2",
        ]
        other.lm_head.weight[0, 0] += 1e-6
        assert HostModel.wrap(other, tiny_tokenizer, "x").changes_since(info) == [
            "weights of lm_head, blocks.0, blocks.1 and 1 more"
        ]
        for value in other.parameters():
            value.mul_(2)
    assert HostModel.wrap(other, tiny_tokenizer, "x").changes_since(info) == ["all weights"]


def test_gguf_files_that_differ_in_the_middle_have_exports_of_their_own(tmp_path: Path) -> None:
    data = bytearray(3 << 20)
    file = tmp_path / "a.gguf"
    file.write_bytes(data)
    first, sampled = resolve._slug(file), resolve._first_slug(file)
    data[len(data) // 2] = 1
    file.write_bytes(data)
    assert resolve._first_slug(file) == sampled
    assert resolve._slug(file) != first


def test_an_export_of_earlier_days_is_taken_over_unless_the_file_is_newer(tmp_path: Path) -> None:
    file, workspace = tmp_path / "a.gguf", Workspace(tmp_path / "home")
    file.write_bytes(b"GGUF nothing")
    old = workspace.folder(Kind.MODELS, resolve._first_slug(file))
    (old / "config.json").write_text("{}")
    assert resolve.export_gguf(file, workspace).name == resolve._slug(file)
    assert not old.exists()
    again = workspace.folder(Kind.MODELS, resolve._first_slug(file))
    shutil.rmtree(workspace.root / "models" / resolve._slug(file))
    (again / "config.json").write_text("{}")
    file.write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match="Cannot read the GGUF file"):
        resolve.export_gguf(file, workspace)
