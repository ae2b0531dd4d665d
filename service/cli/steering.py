"""``monosemy steer``: text written with features pushed, beside without."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import typer

from monosemy.client import SteerStream
from monosemy.exit_codes import USAGE
from monosemy.figures import plural
from monosemy.specs.inference.steering import SteeringBegun, TokenEvent
from service.cli.connect import connect
from service.cli.output import JsonFlag, fail, out, print_json, printable, readable_errors, say
from service.cli.saes import SaeArgument

_RANGE = re.compile(r"([+-]?\d{1,7}):([+-]?\d{1,7})")
_FEATURE = re.compile(r"(\d+)=(-?\d+(?:\.\d+)?)")


@readable_errors
def steer(
    sae: SaeArgument,
    prompt: Annotated[str, typer.Argument(help="The text to go on from.")],
    features: Annotated[
        list[str] | None,
        typer.Option("--feature", "-f", help="INDEX=STRENGTH, such as 42=1.5; repeatable."),
    ] = None,
    concepts: Annotated[
        list[str] | None,
        typer.Option(
            "--concept",
            help="Deactivate this concept's features if the prompt holds it; repeatable.",
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="add, ablate, clamp or orthogonal.")] = "add",
    unit: Annotated[
        str, typer.Option(help="Unit of strengths: max (the feature's maximum) or activation.")
    ] = "max",
    where: Annotated[
        Literal["all", "new", "prompt", "generated", "special"] | None,
        typer.Option(
            help="Tokens to push at: all; new (from the prompt's last one on); prompt; generated; "
            "special (special tokens alone). Default: all."
        ),
    ] = None,
    special: Annotated[
        bool, typer.Option("--special-tokens", help="Push at special tokens of the prompt too.")
    ] = False,
    positions: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="FIRST:LAST",
            help="Push at these tokens of the prompt alone, both included; 0 is the first, "
            "-1 the last: 2:5, -3:-1.",
        ),
    ] = None,
    at_text: Annotated[
        list[str] | None,
        typer.Option(help="Push at tokens whose whole text is this, leading blank included."),
    ] = None,
    at_id: Annotated[
        list[int] | None, typer.Option(min=0, help="Push at tokens of this id.")
    ] = None,
    at_part: Annotated[
        list[str] | None,
        typer.Option(help="Push at tokens that contain this text, special ones left out."),
    ] = None,
    at_kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Push at tokens of this kind: punctuation, newline, number or blank. All four of "
            "--at-... are repeatable."
        ),
    ] = None,
    chat: Annotated[bool, typer.Option(help="Put the prompt into the chat template.")] = False,
    tokens: Annotated[int, typer.Option(min=1, max=1024, help="Most new tokens.")] = 64,
    temperature: Annotated[
        float, typer.Option(min=0, max=10, help="Of the sampling; 0 takes the likeliest token.")
    ] = 0.7,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampling.")] = 0,
    compare: Annotated[bool, typer.Option(help="Also continue the text without steering.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Let the host model continue a text with features steered, beside its plain continuation.

    Example: monosemy steer demo "Once upon a time" --feature 42=1.5 --feature 7=-1
    """
    if not features and not concepts:
        fail("Name what is changed: --feature INDEX=STRENGTH, or --concept NAME.", USAGE)
    client = connect()
    body: dict[str, Any] = {
        "features": [_feature(each, mode, unit) for each in features or []],
        "concepts": concepts or [],
        "new_tokens": tokens,
        "temperature": temperature,
        "seed": seed,
        "compare": compare,
        **_places(
            where,
            special,
            positions,
            {"texts": at_text, "ids": at_id, "contains": at_part, "kinds": at_kind},
        ),
        **({"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}),
    }
    if as_json:
        print_json(client.inference.steered(sae, **body).model_dump(mode="json"))
        return
    with client.inference.steer(sae, **body) as events:
        _show(events)


def _places(
    where: str | None, special: bool, positions: str | None, named: dict[str, Any]
) -> dict[str, Any]:
    """The fields of ``TokenPlaces``."""
    tokens = {name: values for name, values in named.items() if values}
    if sum((where is not None, positions is not None, bool(tokens))) > 1:
        fail("Say where once: --where, --range, or --at-text and the like.", USAGE)
    if special and (positions is not None or tokens or where in ("generated", "special")):
        fail("--special-tokens goes with --where all, new or prompt.", USAGE)
    if tokens:
        return {"where": "tokens", "tokens": tokens}
    if positions is None:
        return {"where": where or "all", "special_tokens": special}
    match = _RANGE.fullmatch(positions)
    if match is None:
        fail(f"'{positions}' is not FIRST:LAST, such as 2:5 or -3:-1.", USAGE)
    return {"where": "range", "range": {"first": int(match[1]), "last": int(match[2])}}


def _feature(text: str, mode: str, unit: str) -> dict[str, Any]:
    match = _FEATURE.fullmatch(text)
    if match is None:
        fail(f"'{text}' is not INDEX=STRENGTH, such as 42=1.5.", USAGE)
    return {"index": int(match[1]), "strength": float(match[2]), "mode": mode, "unit": unit}


def _show(events: SteerStream) -> None:
    """The steered text as it comes, then the other."""
    plain: list[str] = []
    for event in events:
        if isinstance(event, SteeringBegun):
            for each in event.features:
                label = printable(each.label or "")
                say(f"feature {each.index} {label}: {each.mode} {each.strength:.2f}")
            for held in event.concepts:
                does = "flagged, deactivated" if held.flagged else "not flagged"
                told = f"score {held.score:.4g}, threshold {held.threshold:.4g}"
                say(f"concept {printable(held.name)}: {does} ({told})")
            if event.pushed is not None:
                say(f"pushed at {event.pushed} of the prompt's {plural(event.tokens, 'token')}")
            out.print("\nsteered", style="bold")
        elif isinstance(event, TokenEvent) and event.row == "steered":
            out.print(printable(event.text), end="", markup=False, highlight=False)
        elif isinstance(event, TokenEvent):
            plain.append(event.text)
    out.print()
    if plain:
        out.print("\nplain", style="bold")
        out.print(printable("".join(plain)), markup=False, highlight=False, soft_wrap=True)
