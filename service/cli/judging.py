"""``monosemy judge``: the local judge, and what a judge's endpoint can do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from service.cli.client import UNREACHABLE
from service.cli.output import JsonFlag, fail, out, print_json, print_table, readable_errors
from service.cli.stack_commands import Host, Port, become, options_of
from service.settings import Settings

app = typer.Typer(help="Run the local judge, or see what a judge's endpoint can do.")


@app.callback(invoke_without_command=True)
@readable_errors
def judge(
    context: typer.Context,
    host: Host = None,
    port: Port = None,
    threads: Annotated[int | None, typer.Option(help="Threads it may use.")] = None,
    model: Annotated[Path | None, typer.Option(help="A .gguf file to serve instead.")] = None,
) -> None:
    """Run the local judge: llama.cpp's OpenAI-compatible server on the packaged 135M model.

    Example: monosemy judge --port 8422
    """
    if context.invoked_subcommand is not None:
        return
    become(
        "monosemy.interp.local_judge",
        *options_of(host=host, port=port, threads=threads, model=model),
        needs="xllamacpp",
        extra="embedded",
    )


@app.command()
@readable_errors
def check(
    url: Annotated[
        str | None, typer.Option(help="Address, like http://host:8000/v1; by default the server's.")
    ] = None,
    name: Annotated[str | None, typer.Option("--model", help="Name of the model.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """See what the judge's endpoint can do; the key is that of MONOSEMY_JUDGE_API_KEY.

    Example: monosemy judge check --url http://localhost:8000/v1
    """
    from monosemy.errors import JudgeError
    from monosemy.interp.judging.capabilities import (
        Capability,
        probe_capabilities,
        probe_manners,
    )
    from monosemy.interp.judging.judge import Judge
    from monosemy.specs import JudgeSpec

    settings = Settings()
    address = url or settings.judge_url
    if not address:
        fail("There is no judge to check: give --url, or set MONOSEMY_JUDGE_URL.")
    key = settings.judge_api_key.get_secret_value() if settings.judge_api_key else None

    async def ask() -> tuple[str, list[Capability], list[str]]:
        model = name or settings.judge_model
        async with Judge(str(address), key, model, JudgeSpec()) as judge:
            found = await probe_capabilities(judge)
            return judge.model, found, await probe_manners(judge)

    try:
        model, found, manners = asyncio.run(ask())
    except JudgeError as error:
        fail(str(error), UNREACHABLE)
    if as_json:
        capabilities = [vars(each) for each in found]
        print_json({"model": model, "capabilities": capabilities, "findings": manners})
        return
    for line in (f"{model} answers.", *manners):
        out.print(line, highlight=False, markup=False)
    words = {True: "yes", False: "no", None: "unknown"}
    print_table(
        ("capability", "", "how, or why not", "needed for", "without it"),
        [
            (each.name, words[each.there], each.note, each.needed_for, each.otherwise)
            for each in found
        ],
    )
