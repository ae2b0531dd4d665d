"""``monosemy attention``: where features of an attention-output SAE read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from monosemy.exit_codes import USAGE
from monosemy.figures import plural
from service.cli.connect import connect
from service.cli.inference import ChatFlag, prompt_body
from service.cli.output import JsonFlag, fail, print_json, print_table, readable_errors, say
from service.cli.saes import SaeArgument

_HEADS, _SOURCES = 3, 5


@readable_errors
def attention(
    sae: SaeArgument,
    text: Annotated[str, typer.Argument(help="The text to read.")],
    tokens: Annotated[
        list[int] | None,
        typer.Option("--token", "-t", help="At this token, from 0 (the last one); repeatable."),
    ] = None,
    features: Annotated[
        list[int] | None,
        typer.Option("--feature", "-f", help="This feature (the strongest); repeatable."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=20, help="So many of the strongest.")] = 5,
    residual: Annotated[
        str | None, typer.Option(help="SAE on the stream before the block, to tell sources by.")
    ] = None,
    through: Annotated[
        list[str] | None, typer.Option(help="SAE of a block below, for deeper steps; repeatable.")
    ] = None,
    depth: Annotated[int, typer.Option(min=0, max=6, help="Steps back from each source.")] = 0,
    listed: Annotated[int, typer.Option(min=1, max=50, help="Largest parts of each step.")] = 5,
    head: Annotated[
        int | None, typer.Option(min=0, help="Also why this head looks from the token to --source.")
    ] = None,
    source: Annotated[
        int | None, typer.Option(min=-1, help="Token that it looks at; -1 is the BOS.")
    ] = None,
    chat: ChatFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Show which heads and tokens an attention-output feature reads from.

    Example: monosemy attention heads "When Mary and John went, John gave" --depth 1
    """
    if (head is None) != (source is None):
        fail("--head and --source go together.", USAGE)
    body: dict[str, Any] = {
        "sae": sae,
        **prompt_body(text, chat),
        "tokens": tokens or None,
        "features": features or None,
        "top_k": top,
        "residual_sae": residual,
        "through": through or None,
        "depth": depth,
        "listed": listed,
    }
    if head is not None:
        pair_token = tokens[0] if tokens else None
        body["pair"] = {"head": head, "token": pair_token, "source": source}
    answer = connect().post("/inference/attention", body)
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            f"{each['token']} {_text(answer, each['token'])}",
            f"{each['index']} {each['label'] or ''}",
            f"{each['activation']:.2f}",
            _largest(enumerate(each["by_head"]), _HEADS, "{0}"),
            "; ".join(
                f"{place} {_text(answer, place)} {value:+.2f}" for place, value in _sources(each)
            ),
        )
        for each in answer["features"]
    ]
    title = f"blocks.{answer['layer']}, {plural(answer['heads'], 'head')}"
    print_table(("token", "feature", "activation", "heads", "reads from"), rows, title=title)
    for each in answer["features"]:
        if each["parts"]:
            _show_parts(answer, each)
    if answer["pair"]:
        _show_pair(answer, answer["pair"])


def _sources(feature: dict[str, Any]) -> list[tuple[int, float]]:
    sources = list(enumerate(feature["by_source"]))
    if feature["bos"] is not None:
        sources.append((-1, feature["bos"]))
    return sorted(sources, key=lambda item: -abs(item[1]))[:_SOURCES]


def _largest(items: Any, count: int, form: str) -> str:
    largest = sorted(items, key=lambda item: -abs(item[1]))[:count]
    return "; ".join(f"{form.format(name)} {value:+.2f}" for name, value in largest)


def _text(answer: dict[str, Any], token: int) -> str:
    if token < 0:
        return repr(answer["bos"]["text"]) if answer["bos"] else ""
    return repr(answer["tokens"][token]["text"])


def _show_parts(answer: dict[str, Any], feature: dict[str, Any]) -> None:
    title = f"feature {feature['index']} at token {feature['token']}: {feature['pre']:.3f}"
    rows = list(_part_rows(answer, feature["parts"], ""))
    print_table(("value", "part"), rows, title=title)


def _part_rows(
    answer: dict[str, Any], parts: list[dict[str, Any]], indent: str
) -> Iterator[tuple[str, str]]:
    for part in parts:
        yield f"{part['value']:+.3f}", indent + _name_of(answer, part)
        yield from _part_rows(answer, part["parts"] or [], indent + "  ")


def _name_of(answer: dict[str, Any], part: dict[str, Any]) -> str:
    kind = part["kind"]
    if kind == "source":
        return f"from {part['token']} {_text(answer, part['token'])}"
    if kind == "feature" and part["sae"] is not None:
        name = answer["saes"][part["sae"]]["name"]
        return f"{name} {part['feature']} {part['label'] or ''}"
    if kind == "other":
        count = part.get("count")
        return "other parts" if count is None else f"{count} other parts"
    return kind if part.get("layer") is None else f"{kind} of blocks.{part['layer']}"


def _show_pair(answer: dict[str, Any], pair: dict[str, Any]) -> None:
    title = (
        f"head {pair['head']} at {pair['token']} {_text(answer, pair['token'])} looks at "
        f"{pair['source']} {_text(answer, pair['source'])}: {pair['weight']:.0%}"
    )
    for side in ("query", "key"):
        rows = [
            (_name_of(answer, each), f"{each['relative']:+.3f}", f"{each['score']:+.3f}")
            for each in pair[side]
        ]
        print_table((side, "beyond the average", "score"), rows, title=title)
    pairs = [
        (_name_of(answer, pair["query"][q]), _name_of(answer, pair["key"][k]), f"{value:+.3f}")
        for q, k, _, value in pair["pairs"]
    ]
    listed = sum(value for *_, value in pair["pairs"])
    rest = pair["score"] - pair["average"] - listed
    pairs.append(("all other pairs", "", f"{rest:+.3f}"))
    print_table(("query", "key", "beyond the average"), pairs)
    groups = [
        (
            *(each["query"], each["key"], f"{each['relative']:+.3f}"),
            *(f"{each['score']:+.3f}", f"{each['relative_share']:.0%}"),
        )
        for each in pair["groups"]
    ]
    print_table(("query", "key", "beyond the average", "score", "share"), groups)
    say(f"score {pair['score']:.3f}, average of what it looks at {pair['average']:.3f}")
