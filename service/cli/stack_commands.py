"""Commands that start parts of monosemy: the whole stack, or one process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated, Any, Literal

import typer

from monosemy.exit_codes import USAGE
from monosemy.specs.plugins import load_plugins
from service.cli.output import JsonFlag, fail, out, print_json, readable_errors, say
from service.kit.errors import NoDatabase
from service.settings import Settings, settings_with

Port = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM as Ctrl-C within the context: either way everything that was started is stopped."""
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def stack_settings(**values: Any) -> Settings:
    """The settings of a stack, with the ``values`` given on the command line.

    Raises ``MonosemyError`` for what the API would refuse once all else is up.
    """
    settings = settings_with(**values)
    load_plugins()
    if settings.require_keys:
        from service.edge.exposure import check_exposure  # a second of imports

        check_exposure(settings)
    return settings


@readable_errors
def up(
    gpu_workers: Annotated[int, typer.Option(min=0, help="Workers that train and index.")] = 1,
    interp_workers: Annotated[int, typer.Option(min=0, help="Workers that explain.")] = 1,
    judge: Annotated[bool, typer.Option(help="Start the packaged 135M judge.")] = True,
    port: Port = None,
) -> None:
    """Start the whole stack on this machine and serve until Ctrl-C.

    Parts that MONOSEMY_DATABASE_URL, MONOSEMY_REDIS_URL, MONOSEMY_INFERENCE_URL or
    MONOSEMY_JUDGE_URL name are used as they are; the others are started.

    Example: monosemy up --interp-workers 2
    """
    from service.stack.supervisor import Stack

    started = time.monotonic()

    def tell(part: str, text: str) -> None:
        say(f"{time.monotonic() - started:5.1f} s  {part}: {text}")

    stack = Stack(stack_settings(port=port), gpu_workers, interp_workers, judge, on_event=tell)
    try:
        with sigterm_as_interrupt(), stack:
            url = stack.addresses.url
            out.print(f"{url}/", highlight=False)
            say(f"That is the explorer; {url}/api/v1/docs lists every call of REST.")
            stack.wait()
    except KeyboardInterrupt:
        say("Stopped; the data stays.")


@readable_errors
def migrate(
    role_only: Annotated[
        bool,
        typer.Option(
            "--role-only", help="Make role, database and extensions, but no tables: for a restore."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the database to the newest schema; safe to repeat, and for several at once.

    Embeddings get the width of MONOSEMY_EMBEDDING_WIDTH.  If embeddings of another width are
    stored, the command refuses; 'monosemy reembed' makes new ones.

    Example: monosemy migrate
    """
    from service.database.embedding_width import set_width
    from service.database.migrate import head_revision
    from service.database.migrate import migrate as bring_up
    from service.database.roles import prepare

    settings = Settings()
    if not settings.database_url:
        raise NoDatabase
    if settings.database_admin_url:
        prepare(settings.database_admin_url, settings.database_url)
    elif role_only:
        fail("Set MONOSEMY_DATABASE_ADMIN_URL to the address of a superuser.", USAGE)
    if role_only:
        say("The role and its database are there.")
        return
    bring_up(settings.database_url)
    changed = set_width(settings.database_url, settings.embedding_width)
    if as_json:
        width = settings.embedding_width
        print_json({"revision": head_revision(), "embedding_width": width})
    else:
        say(f"The database is at revision {head_revision()}.")
        if changed:
            say(f"Embeddings have {settings.embedding_width} numbers from now on.")


@readable_errors
def serve(host: Host = None, port: Port = None) -> None:
    """Serve the REST API.

    Example: monosemy serve --port 8420
    """
    # The app itself refuses a public address without keys, so its settings must know the address.
    settings = settings_with(host=host, port=port)
    from service.app import create_app
    from service.edge.server import serve as serve_app

    app = create_app(settings)
    # What is imported stays: looking through it again and again held requests up for 0.1 s.
    gc.collect()
    gc.freeze()
    serve_app(app, settings.host, settings.port)


@readable_errors
def worker(
    queue: Annotated[Literal["gpu", "interp"], typer.Argument(help="Whose runs it takes.")],
) -> None:
    """Run a worker: gpu trains, evaluates and indexes; interp explains and scores.

    Example: monosemy worker gpu
    """
    # Looked at here, where what is wrong with the settings ends in a line.
    if not Settings().database_url:
        raise NoDatabase
    become(f"workers.{queue}", needs="torch", extra="train")


@readable_errors
def inference(host: Host = None, port: Port = None) -> None:
    """Run the warm inference server that the API asks for activations and embeddings.

    Example: monosemy inference --port 8421
    """
    Settings()  # as above
    become("workers.inference", *options_of(host=host, port=port), needs="torch", extra="train")


def options_of(**values: object) -> list[str]:
    """Those that were given, as a command line has them."""
    return [
        part
        for name, value in values.items()
        if value is not None
        for part in (f"--{name}", str(value))
    ]


def become(module: str, *options: str, needs: str, extra: str) -> None:
    """Goes on as another program: the service itself never imports what needs torch."""
    if find_spec(needs) is None:
        fail(f"{needs} is not installed here. Install it with: pip install 'monosemy[{extra}]'")
    os.execv(sys.executable, [sys.executable, "-m", module, *options])
