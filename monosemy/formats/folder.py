"""The files of an SAE folder: JSON and safetensors, and nothing else, ever.

Nothing here unpickles: a pickle can run code, and no check of it makes that safe.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError

UNUSABLE = (TypeError, ValueError, OverflowError, RuntimeError)
"""What foreign values cause where sizes and numbers are expected; RuntimeError is torch's, of sizes
that no tensor can have."""

_UNSAFE = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


@contextmanager
def faults_of(folder: Path, what: str = "SAE") -> Iterator[None]:
    """Makes one ``DataError`` that names ``folder`` of what its values cause: of a key or tensor
    that is missing, of what a reader refuses, and of ``UNUSABLE``."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{folder} lacks {error} in its configuration or tensors.") from None
    except DataError as error:
        raise DataError(f"{folder}: {error.message}", error.advice) from None
    except UNUSABLE as error:
        raise DataError(f"{folder} holds no usable {what}: {error}.") from None


def read_tensors(
    file: Path, advice: str | None = None, may_lack: Collection[str] = ()
) -> dict[str, Tensor]:
    """The tensors of a safetensors file; ``DataError`` if it is missing, damaged or holds NaN.

    They come on the CPU in the dtypes they have there.  ``advice`` is what to do where only pickled
    weights are there, which are never read.  ``may_lack`` names tensors that may hold NaN.
    """
    folder = file.parent
    if not file.is_file():
        unsafe = pickles(folder)
        warning = f"{', '.join(unsafe)}: pickled weights can run code and are never read."
        hint = f"{warning} {advice}" if advice else warning
        raise DataError(f"{folder} has no {file.name}.", hint if unsafe else None)
    try:
        tensors = load_file(str(file))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DataError(f"{file} is damaged or no safetensors file: {error}.") from None
    for name, value in tensors.items():
        if name not in may_lack and not torch.isfinite(value).all():
            raise DataError(f"{file}: {name} holds values that are no numbers.")
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """In the dtypes they have."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(plain, str(file))


def float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().float() for name, value in tensors.items()}


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, whole numbers as integers however they are written, NaN as None.

    ``DataError`` if it is missing or something else.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file.parent} has no {file.name}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise DataError(f"{file} does not hold a JSON object.")
    content: dict[str, Any] = plain(data, whole_floats=True)
    return content


def write_json(file: Path, data: Mapping[str, Any]) -> None:
    """As ``plain`` has it: JSON that every reader takes."""
    text = json.dumps(plain(data), indent=1, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def plain(value: Any, whole_floats: bool = False) -> Any:
    """A foreign value as JSON has it: numpy's and torch's numbers are plain ones, those not finite
    None, what is no JSON at all its text.  ``whole_floats``: 2.0 is the integer that was meant."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item, whole_floats) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, whole_floats) for item in value]
    if hasattr(value, "tolist"):  # numpy's and torch's
        return plain(value.tolist(), whole_floats)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            return None
        return int(number) if whole_floats and number.is_integer() else number
    return str(value)


def whole(config: Mapping[str, Any], key: str, least: int = 1) -> int:
    """A whole number in foreign JSON; ``KeyError`` where it is missing, ``ValueError`` for anything
    else or less."""
    value = config[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{key} is {value!r}, no whole number of at least {least}")
    return value


def pickles(folder: Path) -> list[str]:
    """Names of the files in ``folder`` that look like pickled weights."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.suffix in _UNSAFE)


@contextmanager
def replacing(folder: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder to write ``names`` into, which then take their places in ``folder``.

    ``folder`` is renamed into place whole; into one that is there, the files go one by one, between
    which it lacks the first of ``names`` and so holds no SAE.  Other files in it stay: it may hold
    a baseline's, or be no SAE's folder at all.  Of ``names``, those that were not written are
    removed.  ``DataError`` where writing fails.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _move(partial, folder, names)
    except (OSError, SafetensorError) as error:
        raise DataError(f"Cannot write the SAE to {folder}: {error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _move(partial: Path, folder: Path, names: Sequence[str]) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    (folder / names[0]).unlink(missing_ok=True)  # half an SAE is no SAE
    for name in (*names[1:], names[0]):
        if (partial / name).is_file():
            (partial / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
