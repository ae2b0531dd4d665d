"""``monosemy compare``, ``comparison`` and ``links``: features of two SAEs that belong together."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from monosemy.figures import plural
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.explanations import FeatureArgument
from service.cli.features import SaeArgument
from service.cli.following import run_and_show
from service.cli.output import (
    JsonFlag,
    out,
    print_json,
    print_table,
    readable_errors,
    tell,
)

app = typer.Typer(no_args_is_help=True, help="Look at comparisons of SAEs.")

BAR = 40


class By(StrEnum):
    """What makes features alike."""

    decoder = "decoder"
    tokens = "tokens"
    explanations = "explanations"


class Method(StrEnum):
    """How partners are chosen."""

    mutual = "mutual"
    hungarian = "hungarian"


@readable_errors
def compare(
    sae: SaeArgument,
    other: Annotated[str, typer.Argument(help="Id or name of the second SAE.")],
    by: Annotated[By, typer.Option(help="What makes features alike.")] = By.decoder,
    method: Annotated[Method, typer.Option(help="How partners are chosen.")] = Method.mutual,
    neighbours: Annotated[
        int, typer.Option(min=1, max=20, help="Neighbours kept for each feature.")
    ] = 3,
    as_json: JsonFlag = False,
) -> None:
    """Match the features of two SAEs, and say how alike they are.

    Example: monosemy compare small large --method hungarian
    """
    options = {"by": by.value, "method": method.value, "neighbours": neighbours}
    spec = {"kind": "compare", "sae": sae, "other": other, **options}
    run_and_show(spec, "/comparisons/{run}", _show, as_json)


@app.command("list")
@readable_errors
def list_(
    sae: Annotated[str | None, typer.Option(help="Only those with this SAE.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List comparisons, newest first.

    Example: monosemy comparison list --sae demo
    """
    page = connect().get("/comparisons", sae=sae)
    if as_json:
        print_json(page)
        return
    rows = [
        (
            each["id"],
            each["a"]["name"],
            each["b"]["name"],
            each["by"],
            each["method"],
            f"{each['summary']['matched']:,}",
            _number(each["summary"]["mean_matched"]),
        )
        for each in page["items"]
    ]
    print_table(("id", "first", "second", "by", "method", "matched", "mean"), rows)


@app.command()
@readable_errors
def show(
    comparison: Annotated[str, typer.Argument(help="Id of the comparison, or 'latest'.")],
    limit: Annotated[int, typer.Option(min=0, max=200, help="Matches shown.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Show a comparison and its best matches.

    Example: monosemy comparison show latest
    """
    client = connect()
    detail = client.get(f"/comparisons/{segment(comparison)}")
    page = client.get(f"/comparisons/{segment(comparison)}/matches", limit=max(limit, 1))
    if as_json:
        print_json({**detail, "matches": page["items"][:limit]})
        return
    _show(detail)
    rows = [
        (
            item["a"]["index"],
            item["a"]["label"] or "",
            item["b"]["index"],
            item["b"]["label"] or "",
            f"{item['value']:.3f}",
        )
        for item in page["items"][:limit]
    ]
    print_table((detail["a"]["name"], "", detail["b"]["name"], "", "alike"), rows)


@readable_errors
def links(sae: SaeArgument, index: FeatureArgument, as_json: JsonFlag = False) -> None:
    """List a feature's neighbours in its SAE, and its partners in the SAEs compared with it.

    Example: monosemy links demo 464
    """
    answer = connect().get(f"/saes/{segment(sae)}/features/{index}/links")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            link["kind"],
            link["sae"]["name"],
            link["index"],
            link["label"] or "",
            f"{link['value']:.3f}",
            "partner" if link["matched"] else "",
        )
        for link in answer["items"]
    ]
    print_table(("by", "SAE", "index", "label", "alike", ""), rows)


def _show(detail: dict[str, Any]) -> None:
    summary = detail["summary"]
    a, b = detail["a"]["name"], detail["b"]["name"]
    tell(
        f"{a} and {b} by {detail['by']} ({detail['method']}"
        + (", greedy" if summary.get("greedy") else "")
        + f"): {plural(summary['matched'], 'partner')}, {summary['matched_share_a']:.1%} of {a},"
        f" {summary['matched_share_b']:.1%} of {b}"
    )
    null = summary["null"] or {}
    rows = [
        ("partners, mean", _number(summary["mean_matched"])),
        (f"nearest in {b}, mean over {a}", _number(summary["mean_best_a"])),
        (f"nearest in {a}, mean over {b}", _number(summary["mean_best_b"])),
        ("nearest by chance, mean", _number(null.get("mean"))),
        ("nearest by chance, largest", _number(null.get("max"))),
        (f"nearest other feature in {a} itself, mean", _number(summary["within_a"]["mean"])),
    ]
    print_table(("how alike", ""), rows)
    edges, counts = summary["histogram"]["edges"], summary["histogram"]["counts"]
    most = max(counts) or 1
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        bar = "#" * round(BAR * count / most)
        out.print(f"{low:6.2f} to {high:5.2f} {count:8,} {bar}", highlight=False)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
