"""``monosemy reembed``: the embeddings of all explanations, made anew."""

from __future__ import annotations

from typing import Annotated

import typer

from monosemy.console import reporting
from monosemy.exit_codes import USAGE
from service.cli.output import JsonFlag, fail, print_json, readable_errors, say
from service.settings import Settings


@readable_errors
def reembed(
    missing: Annotated[
        bool, typer.Option("--missing", help="Embed only explanations that have no embedding yet.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Throw away all embeddings of explanations and let the embedder make new ones.

    For another embedder (MONOSEMY_EMBEDDER), or another width (MONOSEMY_EMBEDDING_WIDTH).  Set both
    for API, workers and inference server first.  Until it ends, explanations without an embedding
    are found by words alone.  Continue an interrupted run with --missing.

    Example: monosemy reembed
    """
    from service.database.embedding_width import set_width
    from service.database.session import make_engine
    from service.inference.client import InferenceClient
    from service.search.embeddings import Embeddings

    settings = Settings()
    if settings.inference_url is None:
        fail(
            "No inference server is configured. Set MONOSEMY_INFERENCE_URL, or run 'monosemy up'.",
            USAGE,
        )
    engine = make_engine(settings.database_url)
    inference = InferenceClient.of(settings)
    try:
        # Asked before anything is thrown away.
        width = len(inference.embed(["width"])[0])
        if width != settings.embedding_width:
            fail(
                f"The embedder gives {width} numbers; MONOSEMY_EMBEDDING_WIDTH is"
                f" {settings.embedding_width}. Set it to {width}, or name another embedder.",
                USAGE,
            )
        set_width(settings.database_url, width, discard=not missing)
        with reporting(None) as reporter:
            filled = Embeddings(engine, inference, width).fill(None, reporter)
    finally:
        inference.close()
        engine.dispose()
    if as_json:
        print_json({"embedding_width": width, "embedded": filled})
    else:
        say(f"{filled:,} explanations are embedded anew, in {width} numbers.")
