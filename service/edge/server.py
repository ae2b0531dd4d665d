"""The HTTP server: uvicorn, without patience for connections that stall.

``python -m service.edge.server --host ... --port ...`` serves the API of the environment's
settings.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEADER_SECONDS = 15.0
"""A request's headers have to be there within so many seconds of its first byte."""
STALL_SECONDS = 60.0
"""A reader that takes nothing for so long is hung up on."""

if TYPE_CHECKING:
    _Base: Any
else:
    _Base = AutoHTTPProtocol


class ImpatientProtocol(_Base):
    """Ends connections whose headers do not come, and those whose answer nobody reads.

    Slow bodies are ``BodyLimit``'s business, which can answer them with a problem.
    """

    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _expect_headers(self) -> None:
        """The timer runs from the first byte, however many follow, until a request is there."""
        being_served = self.cycle is not None and not self.cycle.response_complete
        if being_served and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif not being_served and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def configured(app: Any, **options: Any) -> uvicorn.Config:
    """How every server of ours is run; ``options`` are uvicorn's."""
    defaults = {
        "http": ImpatientProtocol,
        "ws": "none",
        "log_config": None,
        # A listener to a run's events would hold the server open for as long as the run takes.
        "timeout_graceful_shutdown": 5,
        # Longer than clients keep connections (httpx 5 s): whoever lets go first meets no request.
        "timeout_keep_alive": 30,
        # Whose X-Forwarded-* count is a setting of the app's; uvicorn would believe 127.0.0.1.
        "proxy_headers": False,
    }
    return uvicorn.Config(app, **{**defaults, **options})


def serve(app: Any, host: str, port: int) -> None:
    """Returns once it was told to stop."""
    uvicorn.Server(configured(app, host=host, port=port)).run()


def main() -> None:
    """Serves until stopped."""
    from service.app import create_app

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8420)
    options = parser.parse_args()
    serve(create_app(), options.host, options.port)


if __name__ == "__main__":
    main()
