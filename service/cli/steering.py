"""``monosemy steer``: text written with features pushed, beside without."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer

from service.cli.client import FAILED, ApiError, Client
from service.cli.connect import connect
from service.cli.output import JsonFlag, fail, out, print_json, printable, readable_errors, say
from service.cli.saes import SaeArgument

_FEATURE = re.compile(r"(\d+)=(-?\d+(?:\.\d+)?)")


@readable_errors
def steer(
    sae: SaeArgument,
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    features: Annotated[
        list[str],
        typer.Option("--feature", "-f", help="INDEX=STRENGTH, such as 42=1.5; repeatable."),
    ],
    mode: Annotated[str, typer.Option(help="add, orthogonal or clamp.")] = "add",
    unit: Annotated[
        str, typer.Option(help="max: times the feature's maximum; activation: as it stands.")
    ] = "max",
    chat: Annotated[bool, typer.Option(help="Put the prompt into the chat template.")] = False,
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="New tokens at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, max=10, help="0: the likeliest.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    compare: Annotated[bool, typer.Option(help="Also write on without pushing.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Have the host model write on with features pushed, beside what it writes without.

    Example: monosemy steer demo "Once upon a time" --feature 42=1.5 --feature 7=-1
    """
    asked: dict[str, Any] = {
        "sae": sae,
        "features": [_feature(each, mode, unit) for each in features],
        "new_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
        "compare": compare,
        **({"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}),
    }
    client = connect()
    if as_json:
        print_json(client.post("/inference/steer", asked))
    else:
        _show(client, asked)


def _feature(told: str, mode: str, unit: str) -> dict[str, Any]:
    match = _FEATURE.fullmatch(told)
    if match is None:
        fail(f"'{told}' is not INDEX=STRENGTH, such as 42=1.5.")
    return {"index": int(match[1]), "strength": float(match[2]), "mode": mode, "unit": unit}


def _show(client: Client, asked: dict[str, Any]) -> None:
    """The steered text as it comes, then the other."""
    plain: list[str] = []
    with client.stream_post("/inference/steer", {**asked, "stream": True}) as response:
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            if not line.startswith("data: "):
                continue
            told = json.loads(line.removeprefix("data: "))
            if name == "prompt":
                for each in told["features"]:
                    label = printable(each["label"] or "")
                    say(f"feature {each['index']} {label}: {each['mode']} {each['strength']:.2f}")
                out.print("\nsteered", style="bold")
            elif name == "token" and told["row"] == "steered":
                out.print(printable(told["text"]), end="", markup=False, highlight=False)
            elif name == "token":
                plain.append(told["text"])
            elif name == "error":
                raise ApiError(told["detail"], FAILED)
    out.print()
    if plain:
        out.print("\nplain", style="bold")
        out.print(printable("".join(plain)), markup=False, highlight=False, soft_wrap=True)
