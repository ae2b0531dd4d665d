"""``monosemy judge``: the local judge, and what a judge's endpoint can do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from monosemy.exit_codes import UNREACHABLE, USAGE
from service.cli.connect import connect
from service.cli.output import JsonFlag, fail, out, print_json, print_table, readable_errors, say
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
    test: Annotated[
        bool | None,
        typer.Option(
            "--test/--no-test",
            help="Also ask planted questions (40 to explain, 80 to detect), unless it is tested "
            "already; MONOSEMY_JUDGE_TEST sets the default.",
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Test it again.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="The most that the test may cost, by MONOSEMY_JUDGE_PRICE_*."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the judge's endpoint can do and how good its answers are.

    The key is that of MONOSEMY_JUDGE_API_KEY.

    Example: monosemy judge check --url http://localhost:8000/v1
    """
    from monosemy.interp.judge_test.asking import ask_role
    from monosemy.interp.judge_test.result import ROLES, Role, RoleTest
    from monosemy.interp.judging.capabilities import (
        Capability,
        probe_capabilities,
        probe_manners,
    )
    from monosemy.interp.judging.failures import JudgeAway, JudgeUnreachable
    from monosemy.interp.judging.judge import Judge
    from monosemy.interp.judging.ledger import BudgetSpent, MemoryLedger
    from monosemy.specs import JudgeSpec
    from monosemy.specs.parts import PriceSpec
    from service.judge_tests.by_hand import keep, kept_tests, keys_of

    settings = Settings()
    address = url or settings.judge_url
    if not address:
        fail("There is no judge to check: give --url, or set MONOSEMY_JUDGE_URL.", USAGE)
    key = settings.judge_api_key.get_secret_value() if settings.judge_api_key else None

    testing = settings.judge_test != "skip" if test is None else test
    price = PriceSpec(
        input=settings.judge_price_input,
        cached=settings.judge_price_cached,
        output=settings.judge_price_output,
    )
    if budget is not None and not (price.input or price.output):
        fail("A budget needs prices: set MONOSEMY_JUDGE_PRICE_INPUT and _OUTPUT.", USAGE)
    ledger = MemoryLedger(price, budget)
    tests: dict[Role, RoleTest] = {}

    async def ask() -> tuple[str, list[Capability], list[str], bool]:
        model = name or settings.judge_model
        async with Judge(str(address), key, model, JudgeSpec(), ledger=ledger) as judge:
            probed = await probe_capabilities(judge)
            manners = await probe_manners(judge)
            if testing and not again:
                tests.update(await asyncio.to_thread(kept_tests, settings, keys_of(judge)))
            fresh = {}
            for role in ROLES if testing else ():
                if role not in tests:
                    say(f"Testing it: {role} ...")
                    fresh[role] = tests[role] = await ask_role(judge, role)
            kept = not fresh or await asyncio.to_thread(keep, settings, judge, fresh)
            return judge.model, probed, manners, kept

    try:
        model, probed, manners, kept = asyncio.run(ask())
    except BudgetSpent as error:
        fail(f"{error} The test is not whole.")
    except (JudgeAway, JudgeUnreachable) as error:
        fail(str(error), UNREACHABLE)
    if as_json:
        capabilities = [vars(each) for each in probed]
        print_json(
            {
                "model": model,
                "capabilities": capabilities,
                "findings": manners,
                "tests": {role: each.as_dict() for role, each in tests.items()},
                "kept": kept,
                "cost": ledger.cost,
            }
        )
        return
    for line in (f"{model} answers.", *manners):
        out.print(line, highlight=False, markup=False)
    words = {True: "yes", False: "no", None: "unknown"}
    print_table(
        ("capability", "", "how, or why not", "needed for", "without it"),
        [
            (each.name, words[each.there], each.note, each.needed_for, each.otherwise)
            for each in probed
        ],
    )
    for each in tests.values():
        out.print(each.warning() or str(each), highlight=False, markup=False, soft_wrap=True)
    if not kept:
        say("The test is not kept: no database answers (MONOSEMY_DATABASE_URL).")


@app.command("tests")
@readable_errors
def list_tests(as_json: JsonFlag = False) -> None:
    """List the results of judges' tests on questions of known answers.

    Example: monosemy judge tests
    """
    listed = connect().get("/judge-tests")
    if as_json:
        print_json(listed)
        return
    rows = []
    for test in listed["items"]:
        result = test["result"]
        interval = f"{result['low']:.2f} to {result['high']:.2f}"
        rows.append(
            (
                test["model"],
                test["endpoint"],
                test["role"],
                result["verdict"],
                f"{result['accuracy']:.2f} ({interval})",
                f"{result['chance']:.2f}",
                result["n"],
                test["created_at"][:16],
            )
        )
    print_table(("model", "endpoint", "role", "", "right (95 %)", "guessing", "n", "when"), rows)
