"""``monosemy activations``, ``tokenize`` and ``contrast``: texts of one's own, on a warm model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from monosemy.exit_codes import USAGE
from monosemy.figures import plural
from service.cli.connect import connect
from service.cli.output import JsonFlag, fail, print_json, print_table, readable_errors, say
from service.cli.saes import SaeArgument
from service.cli.texts import text_lines

ChatFlag = Annotated[
    bool, typer.Option("--chat", help="Put the text into the model's chat template.")
]


@readable_errors
def activations(
    sae: SaeArgument,
    text: Annotated[str, typer.Argument(help="The text to read.")],
    top: Annotated[int, typer.Option(min=1, max=100, help="Features per token.")] = 3,
    features: Annotated[
        list[int] | None,
        typer.Option("--feature", "-f", help="Only this feature, on every token; repeatable."),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Another SAE of the same host model; repeatable."),
    ] = None,
    chat: ChatFlag = False,
    unexplained: Annotated[
        bool, typer.Option("--unexplained", help="Also the share that each SAE does not explain.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show which features fire on each token of a text.

    Example: monosemy activations demo "The king met the queen."
    """
    if also and features:
        fail("--feature is for one SAE: leave --also out.", USAGE)
    body: dict[str, Any] = {**prompt_body(text, chat), "top_k": top}
    if unexplained:
        body["unexplained"] = True
    if also:
        body["saes"] = [{"sae": name} for name in (sae, *also)]
    else:
        body |= {"sae": sae, "features": features or None}
    answer = connect().post("/inference/activations", body)
    if as_json:
        print_json(answer)
    elif features:
        columns = [
            "token",
            *(f"{each['index']} {each['label'] or ''}" for each in answer["chosen"]),
        ]
        values = zip(*(each["activations"] for each in answer["chosen"]), strict=True)
        rows = [
            (repr(token["text"]), *(f"{value:.2f}" if value else "" for value in row))
            for token, row in zip(answer["tokens"], values, strict=True)
        ]
        print_table(columns, rows)
    else:
        names = [each["name"] for each in answer["saes"]]
        rows = [(repr(token["text"]), *_by_sae(token, len(names))) for token in answer["tokens"]]
        columns = ["token", *(f"strongest of {name}" for name in names)]
        for name, shares in zip(names, answer.get("unexplained") or (), strict=False):
            columns.append(f"unexplained by {name}")
            told = ["-"] * len(rows) if shares is None else [f"{share:.0%}" for share in shares]
            rows = [(*row, share) for row, share in zip(rows, told, strict=True)]
        print_table(columns, rows)


@readable_errors
def tokenize(
    sae: Annotated[str, typer.Argument(help="Id or name of an SAE, for its host model.")],
    text: Annotated[str, typer.Argument(help="The text to tokenize.")],
    model: Annotated[
        bool, typer.Option("--model", help="The first argument names a host model instead.")
    ] = False,
    chat: ChatFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the tokens of a text as the host model reads it.

    Example: monosemy tokenize demo "The clockmaker's map"
    """
    body = {"model" if model else "sae": sae, **prompt_body(text, chat)}
    answer = connect().post("/inference/tokenize", body)
    if as_json:
        print_json(answer)
        return
    print_table(("id", "text"), [(each["id"], repr(each["text"])) for each in answer["tokens"]])
    bos = answer["bos"]
    before = f", after {bos['text']!r} ({bos['id']})" if bos else ""
    say(f"{plural(len(answer['tokens']), 'token')} of {answer['model']['name']}{before}")


@readable_errors
def contrast(
    sae: SaeArgument,
    positive: Annotated[
        list[str] | None,
        typer.Option("--positive", "-p", help="A text that has the property; repeatable."),
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option("--negative", "-n", help="A text that lacks the property; repeatable."),
    ] = None,
    positive_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File of such texts, one per line."),
    ] = None,
    negative_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File of such texts, one per line."),
    ] = None,
    describe: Annotated[
        str | None,
        typer.Option(help="The property in words: rerank by how close explanations are to it."),
    ] = None,
    statistic: Annotated[
        Literal["standardised", "auroc", "share"],
        typer.Option(help="Statistic to rank by and to test with."),
    ] = "standardised",
    pooling: Annotated[
        Literal["mean", "max"], typer.Option(help="How a text's value is taken over its tokens.")
    ] = "mean",
    top: Annotated[int, typer.Option(min=1, max=100, help="Features listed for each side.")] = 10,
    chat: ChatFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Find the features that tell one set of texts from another.

    Example: monosemy contrast demo -p "I love it." -p "Great!" -n "I hate it." -n "Awful!"
    """
    body: dict[str, Any] = {
        "sae": sae,
        "positive": [*(positive or ()), *text_lines(positive_file)],
        "negative": [*(negative or ()), *text_lines(negative_file)],
        "chat": chat,
        "statistic": statistic,
        "pooling": pooling,
        "top_k": top,
    }
    if describe is not None:
        body["rerank"] = {"description": describe}
    answer = connect().post("/inference/contrast", body)
    if as_json:
        print_json(answer)
        return
    for side in ("positive", "negative"):
        _show_side(f"more on the {side} texts (n = {answer[f'n_{side}']})", answer[side])
    how = "all there are" if answer["exact"] else "at random"
    say(f"p: that of the best of all features, over {answer['relabellings']} labellings ({how})")
    if answer["reason"]:
        say(f"Not reranked: {answer['reason']}")


def prompt_body(text: str, chat: bool) -> dict[str, Any]:
    """The fields of ``Prompted``."""
    return {"messages": [{"role": "user", "content": text}]} if chat else {"text": text}


def _by_sae(token: dict[str, Any], saes: int) -> list[str]:
    return [
        "; ".join(
            f"{each['index']} ({each['activation']:.1f}) {each['label'] or ''}"
            for each in token["features"]
            if each["sae"] == number
        )
        for number in range(saes)
    ]


def _show_side(title: str, features: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["index"],
            each["label"],
            f"{each['auroc']:.2f}",
            f"{each['standardised']:+.2f}",
            f"{each['share_positive']:.0%} / {each['share_negative']:.0%}",
            f"{each['p_value']:.3f}",
            "" if each["similarity"] is None else f"{each['similarity']:.2f}",
        )
        for each in features
    ]
    columns = ("index", "label", "AUROC", "standardised", "fires on", "p", "similarity")
    print_table(columns, rows, title=title)
