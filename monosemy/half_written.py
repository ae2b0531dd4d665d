"""What is written under another name until it is whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FAULT = re.compile(r"\[Errno (\d+)\] (.+?): '(.+?)'", re.DOTALL)


@contextmanager
def faults_naming(target: Path, half: Path) -> Iterator[None]:
    """Within, an ``OSError`` names ``target`` where it would name ``half``, or what lies in it:
    nobody has chosen that name, and it is gone afterwards."""
    try:
        yield
    except shutil.Error as error:
        raise _first_of(error, target, half) from None
    except OSError as error:
        if error.errno is None:
            raise
        names = (_renamed(name, target, half) for name in (error.filename, error.filename2))
        first_name, second_name = names
        raise OSError(error.errno, error.strerror, first_name, None, second_name) from None


def _first_of(error: shutil.Error, target: Path, half: Path) -> OSError:
    """Of a copied tree, which fails with (from, to, why) of each file, ``why`` as a text."""
    faults = error.args[0] if error.args else None
    first = faults[0][-1] if isinstance(faults, list) and faults else error
    text = _renamed(str(first), target, half)
    parts = _FAULT.match(text)
    return OSError(text) if parts is None else OSError(int(parts[1]), parts[2], parts[3])


def _renamed(name: Any, target: Path, half: Path) -> Any:
    return name.replace(str(half), str(target)) if isinstance(name, str) else name
