"""``monosemy features``, ``feature show`` and ``search``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.panel import Panel

from monosemy.specs.latent_classes import LatentClassFilter
from monosemy.specs.rest.attention import FeatureFamily
from monosemy.specs.rest.features import FeatureSort
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.feature_files import embed, export
from service.cli.feature_text import (
    evidence_lines,
    example_text,
    explanation_lines,
    neighbour_lines,
)
from service.cli.output import (
    JsonFlag,
    number,
    out,
    plain,
    print_json,
    print_table,
    readable_errors,
    say,
)
from service.cli.provenance import judgements
from service.cli.saes import SaeArgument

app = typer.Typer(no_args_is_help=True, help="Look at one feature.")
app.command("export")(export)
app.command("embed")(embed)
app.command("judgements")(judgements)


@readable_errors
def features(
    sae: SaeArgument,
    sort: Annotated[FeatureSort, typer.Option(help="Order by.")] = "index",
    order: Annotated[Literal["asc", "desc"], typer.Option(help="Direction.")] = "asc",
    query: Annotated[str | None, typer.Option(help="Words in a label or explanation.")] = None,
    min_density: Annotated[
        float | None, typer.Option(help="Lowest density (share of tokens on which it fires).")
    ] = None,
    max_density: Annotated[
        float | None, typer.Option(help="Highest density (share of tokens on which it fires).")
    ] = None,
    has_explanation: Annotated[
        bool | None, typer.Option(help="Only features with, or without, an explanation by an LLM.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    head: Annotated[
        int | None, typer.Option(min=0, help="Only of this attention head (monosemy heads).")
    ] = None,
    family: Annotated[
        FeatureFamily | None, typer.Option(help="Only of this family (monosemy heads).")
    ] = None,
    latent_class: Annotated[
        LatentClassFilter | None,
        typer.Option(
            help="Only latents of a crosscoder of this class, as its evaluation has measured."
        ),
    ] = None,
    genuine: Annotated[
        bool | None,
        typer.Option(
            "--genuine/--only-looks-so",
            help="Only latents that look exclusive to a place, and are, or are not.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the features of an SAE.

    Example: monosemy features demo --sort score --order desc
    """
    page = connect().get(
        f"/saes/{segment(sae)}/features",
        sort=sort,
        order=order,
        q=query,
        min_density=min_density,
        max_density=max_density,
        has_explanation=has_explanation,
        tag=tag,
        head=head,
        family=family,
        latent_class=latent_class,
        genuine=genuine,
        limit=limit,
    )
    if as_json:
        print_json(page)
        return
    rows = [_row(item) for item in page["items"]]
    print_table(("index", "density", "max", "heading", "by", "score"), rows)
    if page["next_cursor"]:
        say("There are more; raise --limit or narrow the list down.")


@app.command("show")
@readable_errors
def show(
    sae: SaeArgument,
    index: Annotated[int, typer.Argument(min=0, help="Index of the feature.")],
    examples: Annotated[int, typer.Option(min=0, help="How many examples.")] = 8,
    as_json: JsonFlag = False,
) -> None:
    """Show everything known about a feature.

    Example: monosemy feature show demo 42
    """
    page = connect().get(f"/saes/{segment(sae)}/features/{index}")
    if as_json:
        print_json(page)
        return
    lines = [*evidence_lines(page), *explanation_lines(page), *neighbour_lines(page)]
    title = f"{plain(page['sae']['name'])}  feature {page['index']}"
    out.print(Panel("\n".join(lines), title=title, title_align="left"), highlight=False)
    for example in page["examples"][:examples]:
        head = f"[dim]{plain(example['group']):>4} {example['activation']:8.2f}[/]  "
        out.print(head + example_text(example), highlight=False, soft_wrap=True)


@readable_errors
def search(
    query: Annotated[str, typer.Argument(help="What the feature should be about.")],
    sae: Annotated[
        list[str] | None, typer.Option(help="Only this SAE, by id or name; repeat it for several.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only SAEs of this host model.")] = None,
    min_density: Annotated[
        float | None, typer.Option(help="Lowest density (share of tokens on which it fires).")
    ] = None,
    max_density: Annotated[
        float | None, typer.Option(help="Highest density (share of tokens on which it fires).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Search features by meaning and by words, over all SAEs or in some.

    Example: monosemy search "names of kings"
    """
    answer = connect().get(
        "/search",
        q=query,
        sae=sae or None,
        model=model,
        min_density=min_density,
        max_density=max_density,
        limit=limit,
    )
    if as_json:
        print_json(answer)
        return
    if answer["mode"] == "lexical":
        say(f"Searched by words only: {answer['reason']}")
    rows = [(hit["sae"], *_row(hit), ", ".join(hit["matched"])) for hit in answer["items"]]
    columns = ("SAE", "index", "density", "max", "heading", "by", "score", "found by")
    print_table(columns, rows)


def _row(item: dict[str, Any]) -> tuple[Any, ...]:
    score = item["score"]
    return (
        item["index"],
        f"{item['density']:.3%}",
        f"{item['max_activation']:.1f}",
        item["heading"]["text"],
        item["heading"]["source"],
        _score(score) if score else "",
    )


def _score(score: dict[str, Any]) -> str:
    """Value, interval and n; a value never stands alone."""
    if score["value"] is None:
        return "none"
    low, high = number(score["low"], ".2f"), number(score["high"], ".2f")
    return f"{score['value']:.2f} [{low}, {high}] n {score['n']}"
