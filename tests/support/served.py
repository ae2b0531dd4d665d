"""An app on a real server, as it is run in earnest, on a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from service.edge.server import configured


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Address of ``app`` on a server of its own."""
    server = uvicorn.Server(configured(app, port=0))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
