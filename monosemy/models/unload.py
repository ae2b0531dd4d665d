"""Layers that a truncated forward never reaches, let go while it runs again and again."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from monosemy.errors import ModelError


def unload_layers(model: nn.Module, blocks: Iterable[nn.Module]) -> list[str]:
    """Frees the parameters of ``blocks`` and of an unembedding that is not the embedding's.

    Returns the names of what was freed; what a kept module shares stays.
    """
    unwanted = [*blocks, *_output_embedding(model)]
    inside = {id(module) for outer in unwanted for module in outer.modules()}
    kept = {
        id(value)
        for module in model.modules()
        if id(module) not in inside
        for value in module._parameters.values()
    }
    names = []
    for name, value in list(model.named_parameters(remove_duplicate=False)):
        owner = name.rpartition(".")[0]
        if id(model.get_submodule(owner)) in inside and id(value) not in kept:
            _put(model, name, nn.Parameter(torch.empty_like(value, device="meta"), False))
            names.append(name)
    _return_to_system()
    return names


def reload_layers(model: nn.Module, names: Iterable[str], whole: nn.Module) -> None:
    """Puts the parameters ``names`` of ``whole`` back into ``model``.

    ``ModelError``, with nothing put back, if ``whole`` is no longer the same model: its files may
    have been replaced meanwhile.
    """
    parameters = dict(whole.named_parameters(remove_duplicate=False))
    wanted = dict(model.named_parameters(remove_duplicate=False))
    for name, value in wanted.items():
        other = parameters.get(name)
        same = other is not None and other.shape == value.shape
        if same and not value.is_meta:
            same = torch.equal(value, other)  # type: ignore[arg-type]
        if not same:
            raise ModelError(
                f"The files of the host model have changed while it was in use ({name}).",
                "Start the run again.",
            )
    for name in names:
        _put(model, name, parameters[name])


def _put(model: nn.Module, name: str, value: nn.Parameter) -> None:
    owner, _, last = name.rpartition(".")
    model.get_submodule(owner)._parameters[last] = value


def _return_to_system() -> None:
    """glibc keeps what is freed for the thread that had asked for it, and weights are loaded by
    several: without this most of the memory would stay ours and unused."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except (OSError, AttributeError):  # another C library
            return


def _output_embedding(model: Any) -> list[nn.Module]:
    module = model.get_output_embeddings()
    return [] if module is None else [module]
