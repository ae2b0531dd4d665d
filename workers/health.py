"""Whether a worker's loops still turn: ``python -m workers.health`` exits 0 if they do.

The worker touches a file; a container's health check looks at its age.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

MAX_AGE_SECONDS = 60.0


def _file() -> Path:
    return Path(tempfile.gettempdir()) / f"monosemy-worker-{os.getuid()}.alive"


def touch() -> None:
    _file().touch()


def is_alive() -> bool:
    """True if a worker of this user (in a container: the worker) was alive a minute ago."""
    try:
        return time.time() - _file().stat().st_mtime < MAX_AGE_SECONDS
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if is_alive() else 1)
