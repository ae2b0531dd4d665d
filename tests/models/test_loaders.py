"""What the files of a model cannot do: run code, unpickle, fetch, or take what is not there."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from monosemy.errors import ModelError
from monosemy.interp.embedder import Embedder
from monosemy.models import memory
from monosemy.models.host import HostModel
from monosemy.models.loaders import load_config
from monosemy.models.memory import config_bytes, machine_bytes, most_bytes
from monosemy.models.resolve import ModelPlace, expected_bytes, open_tokenizer
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace
from tests.support.tiny_models import CONFIGURATIONS, tiny_model

ROOT = Path(__file__).resolve().parents[2]

LOADERS = {"from_pretrained", "load_dataset"}
"""Methods that read what others wrote."""
NEEDED = {
    "AutoConfig": {"trust_remote_code"},
    "AutoTokenizer": {"trust_remote_code"},
    "AutoModel": {"trust_remote_code", "use_safetensors", "attn_implementation"},
    "AutoModelForCausalLM": {"trust_remote_code", "use_safetensors", "attn_implementation"},
    "architecture": {"trust_remote_code", "use_safetensors", "attn_implementation"},
    "datasets": {"trust_remote_code"},
}
"""Who loads -> what must be said."""
NO_CODE = {"Theirs"}
"""Loaders that know no remote code: those of sae-lens."""


def calls_of_loaders() -> list[tuple[str, ast.Call, str]]:
    """(owner, call, place) of every call of a loader."""
    calls = []
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LOADERS
            ):
                place = f"{file.relative_to(ROOT)}:{node.lineno}"
                calls.append((ast.unparse(node.func.value), node, place))
    return calls


def sources() -> list[Path]:
    packages = ("monosemy", "service", "workers")
    return [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]


def test_every_call_of_a_loader_says_what_it_must() -> None:
    calls = calls_of_loaders()
    assert {owner for owner, _, _ in calls} == {*NEEDED, *NO_CODE}
    for owner, call, place in calls:
        if owner in NO_CODE:
            continue
        given = {each.arg: each.value for each in call.keywords}
        assert NEEDED[owner] <= given.keys(), place
        for name, wanted in (("trust_remote_code", False), ("use_safetensors", True)):
            value = given.get(name)
            assert value is None or (isinstance(value, ast.Constant) and value.value is wanted)
        if owner != "datasets":
            assert place.startswith("monosemy/models/loaders.py"), "loaders have one place"


def test_nothing_unpickles() -> None:
    """``torch.load`` only with ``weights_only``, numpy's never with pickles, no pickle module."""
    for file in sources():
        text = file.read_text(encoding="utf-8")
        assert "import pickle" not in text and "allow_pickle=True" not in text, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {each.arg: ast.unparse(each.value) for each in node.keywords}
                assert given.get("weights_only") == "True", file


@pytest.fixture
def folder(tiny_host: HostModel, tmp_path: Path) -> Path:
    place = tmp_path / "model"
    tiny_host.model.save_pretrained(place)
    tiny_host.tokenizer.save_pretrained(place)
    return place


def change(file: Path, **values: Any) -> None:
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, **values}))


def load(folder: Path, **options: Any) -> HostModel:
    spec = ModelSpec(name=str(folder), dtype="float32", device="cpu")
    return HostModel.load(spec, Workspace(folder.parent / "artifacts"), **options)


class Mark:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, Any]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "names",
    [
        ["pytorch_model.bin"],
        ["model.safetensors"],
        ["pytorch_model.bin", "pytorch_model.bin.index.json"],
        ["weights.bin", "model.safetensors.index.json"],
        ["weights.bin", "own.safetensors.index.json"],
    ],
)
def test_pickled_weights_are_never_read(folder: Path, tmp_path: Path, names: list[str]) -> None:
    mark = tmp_path / "was-read"
    (folder / "model.safetensors").unlink()
    (folder / names[0]).write_bytes(pickle.dumps(Mark(mark)))
    if len(names) > 1:
        index = {"metadata": {}, "weight_map": {"lm_head.weight": names[0]}}
        (folder / names[1]).write_text(json.dumps(index))
    if names[-1].startswith("own"):
        change(folder / "config.json", transformers_weights=names[-1])
    with pytest.raises(ModelError):
        load(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "named", ["weights.bin", "../model/model.safetensors", "/etc/passwd", "../other.safetensors"]
)
def test_weights_of_another_name_or_place(folder: Path, named: str) -> None:
    change(folder / "config.json", transformers_weights=named)
    with pytest.raises(ModelError, match=r"no \.safetensors file of that folder"):
        load(folder)


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "{",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 1}}',
        "[" * 100000,
        '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": {"a": "/x.safetensors"}}',
    ],
)
def test_an_index_that_is_none(folder: Path, index: str) -> None:
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"no index of weight files|no .safetensors"):
        load(folder)


def test_a_distributed_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-read"
    (folder / "model.safetensors").unlink()
    (folder / ".metadata").write_bytes(pickle.dumps(Mark(mark)))
    (folder / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(ModelError, match="distributed checkpoint"):
        load(folder)
    assert not mark.exists()


def write_code(folder: Path, mark: Path) -> None:
    for name in ("own_config.py", "own_model.py", "own_tokens.py"):
        (folder / name).write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()")


def test_a_known_model_with_code_beside_it_is_loaded_without(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    write_code(folder, mark)
    change(
        folder / "config.json",
        auto_map={"AutoConfig": "own_config.C", "AutoModelForCausalLM": "own_model.M"},
    )
    assert load(folder).n_layers
    assert not mark.exists()


def test_a_tokenizer_of_its_own_code(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    write_code(folder, mark)
    change(
        folder / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": ["own_tokens.T", "own_tokens.T"]},
    )
    spec = ModelSpec(name=str(folder))
    for attempt in (
        lambda: open_tokenizer(ModelPlace(str(folder)), spec),
        lambda: load(folder),
    ):
        with pytest.raises(ModelError):
            attempt()
    assert not mark.exists()


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "fp8", "mxfp4", "owncode"])
def test_quantised_models_are_refused(folder: Path, method: str) -> None:
    change(folder / "config.json", quantization_config={"quant_method": method, "load_in_8bit": 1})
    with pytest.raises(ModelError, match="quantised"):
        load(folder)


@pytest.mark.parametrize("base", ["somebody/else", "/etc", "../other", "model"])
def test_an_adapter_names_no_other_model(folder: Path, base: str) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="adapter"):
        load(folder)


@pytest.mark.parametrize("name", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize(
    "value",
    [
        "somebody/kernel",
        "somebody/kernel@main:f",
        "flash_attention_2",
        "flex_attention",
        "nonsense",
        {"": "somebody/kernel"},
    ],
)
def test_attention_is_ours(folder: Path, name: str, value: Any) -> None:
    change(folder / "config.json", **{name: value})
    host = load(folder)
    assert host.model.config._attn_implementation in ("sdpa", "eager")


def test_experts_and_inner_configurations_choose_nothing(tmp_path: Path) -> None:
    """A configuration within another is as foreign as the outer one."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 400}
    text |= {"model_type": "gemma3_text", "_attn_implementation": "somebody/kernel"}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    )
    config = load_config(tmp_path, "x")
    model = transformers.AutoModelForCausalLM.from_config(
        config.text_config, attn_implementation=None
    )
    assert model.config._attn_implementation in ("sdpa", "eager")
    text["quantization_config"] = {"quant_method": "fp8"}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gemma3", "text_config": text, "vision_config": {}})
    )
    with pytest.raises(ModelError, match="quantised"):
        load_config(tmp_path, "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 10**6}, r"asks for over|takes at least"),
        ({"num_hidden_layers": 10**9}, r"asks for over|takes at least"),
        ({"hidden_size": 2**20, "intermediate_size": 2**22}, "MONOSEMY_MAX_MEMORY_MB"),
        ({"vocab_size": 2**31}, "MONOSEMY_MAX_MEMORY_MB"),
        ({"vocab_size": 10**30}, "holds the number 1000"),
        ({"hidden_size": -32}, "Cannot build|Cannot load"),
        ({"hidden_size": "many"}, "Cannot build|Cannot load"),
        ({"num_attention_heads": 0}, "Cannot build|Cannot load"),
    ],
)
def test_a_configuration_of_any_size_costs_little(
    folder: Path, values: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_MODULES", 2000)
    change(folder / "config.json", **values)
    start = time.process_time()
    with pytest.raises(ModelError, match=message):
        load(folder)
    assert time.process_time() - start < 20


@pytest.mark.parametrize("architecture", sorted(CONFIGURATIONS))
def test_what_is_expected_is_what_is_taken(architecture: str) -> None:
    model = tiny_model(architecture, 400)
    taken = sum(parameter.numel() for parameter in model.parameters())
    assert config_bytes(model.config, torch.float32, 2**40, "x") == 4 * taken
    assert config_bytes(model.config, torch.bfloat16, 2**40, "x") == 2 * taken


def test_a_setting_or_the_machine_bounds_what_is_loaded(folder: Path) -> None:
    needed = expected_bytes(
        ModelPlace(str(folder)), ModelSpec(name=str(folder), dtype="float32", device="cpu")
    )
    assert load(folder, allowed=needed).n_layers
    with pytest.raises(ModelError, match="raise MONOSEMY_MAX_MEMORY_MB"):
        load(folder, allowed=needed - 1)
    cpu = torch.device("cpu")
    assert most_bytes(cpu) == most_bytes(cpu, 2**80) == machine_bytes()
    assert most_bytes(cpu, 5) == 5
    # The files' size says nothing: the same weights, stored in half the bytes.
    halved = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="raise MONOSEMY_MAX_MEMORY_MB"):
        load(folder, allowed=needed - 1)


def test_weights_of_other_shapes_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    whole = load_file(file)
    name = next(name for name in whole if name.endswith("mlp.up_proj.weight"))
    save_file({**whole, name: torch.zeros(3, 3)}, file, {"format": "pt"})
    with pytest.raises(ModelError):
        load(folder)
    save_file({key: value for key, value in whole.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=rf"lack 1 weights.*{name}"):
        load(folder)
    save_file({**whole, "more.weight": torch.zeros(2)}, file, {"format": "pt"})
    assert load(folder).n_layers


def test_an_embedder_is_opened_by_the_same_rules(tmp_path: Path, tiny_tokenizer: Any) -> None:
    config = transformers.BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "encoder")
    tiny_tokenizer.save_pretrained(tmp_path / "encoder")
    change(tmp_path / "encoder" / "config.json", _attn_implementation="somebody/kernel")
    assert Embedder.load(str(tmp_path / "encoder")).width == 16
    mark = tmp_path / "was-read"
    shutil.move(tmp_path / "encoder" / "model.safetensors", tmp_path / "weights")
    (tmp_path / "encoder" / "pytorch_model.bin").write_bytes(pickle.dumps(Mark(mark)))
    with pytest.raises(ModelError, match="cannot be loaded"):
        Embedder.load(str(tmp_path / "encoder"))
    assert not mark.exists()
    assert "kernels" not in sys.modules
