"""``monosemy sae`` and ``monosemy models``: what there is, copies of SAE folders, uploads."""

from __future__ import annotations

import array
import csv
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from monosemy.formats.archive import ALLOWED, WEIGHTS
from monosemy.specs.hooks import HOST
from service.cli.client import segment
from service.cli.connect import connect
from service.cli.exported import READ_BY, Form, export_saes
from service.cli.output import (
    JsonFlag,
    fail,
    moment,
    number,
    out,
    print_json,
    print_table,
    readable_errors,
    say,
)

app = typer.Typer(no_args_is_help=True, help="List, show and export SAEs.")


SaeArgument = Annotated[str, typer.Argument(metavar="SAE", help="Id or name of the SAE.")]


@app.command("list")
@readable_errors
def list_(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List SAEs, newest first.

    Example: monosemy sae list
    """
    page = connect().get("/saes", limit=limit)
    if as_json:
        print_json(page)
        return
    rows = []
    for sae in page["items"]:
        metrics = sae["metrics"].get("evaluation") or sae["metrics"]
        index = sae["index"] or {}
        rows.append(
            (
                sae["name"],
                sae["model"]["name"],
                sae["site"],
                sae["architecture"],
                f"{sae['d_sae']:,}",
                number(metrics.get("fvu"), ".3f"),
                number(metrics.get("l0"), ".1f"),
                number(index.get("tokens"), ",") or "not indexed",
            )
        )
    head = ("name", "host model", "site", "architecture", "d_sae", "FVU", "L0", "tokens indexed")
    print_table(head, rows)


@app.command()
@readable_errors
def show(sae: SaeArgument, as_json: JsonFlag = False) -> None:
    """Show an SAE: figures, configuration, where it came from.

    Example: monosemy sae show demo
    """
    detail = connect().get(f"/saes/{segment(sae)}")
    if as_json:
        print_json(detail)
        return
    evaluation = detail["metrics"].get("evaluation") or {}
    rows = [
        ("id", detail["id"]),
        ("host model", detail["model"]["name"]),
        ("reads", _places(detail["hooks"]["reads"])),
        ("writes", _places(detail["hooks"]["writes"])),
        (
            "basis, not trained" if detail.get("basis") else "architecture",
            f"{detail['architecture']}, {detail['d_in']} to {detail['d_sae']}",
        ),
        ("folder", detail["path"]),
        *(
            ()
            if detail.get("basis")
            else (("tokens trained on", number(detail["metrics"].get("tokens"), ",")),)
        ),
        *(
            (f"held-out {k}", f"{v:.4g}")
            for k, v in evaluation.items()
            if isinstance(v, int | float)
        ),
        *(
            (f"held-out L0 at PPL-{needed['percent']:g}%", f"{needed['l0']:.4g}")
            for needed in [evaluation.get("effective_l0")]
            if needed
        ),
        *((f"features {k}", v) for k, v in detail["features"].items() if k != "scorers"),
        *((f"features scored by {k}", v) for k, v in detail["features"]["scorers"].items()),
    ]
    print_table(("", ""), rows, title=detail["name"])


@app.command("distribution")
@readable_errors
def show_distribution(sae: SaeArgument, as_json: JsonFlag = False) -> None:
    """Show how often the features of an SAE fire, and how strongly at most.

    Example: monosemy sae distribution demo
    """
    found = connect().get(f"/saes/{segment(sae)}/distribution")
    if as_json:
        print_json(found)
        return
    for name, title in (("density", "fires on"), ("maximum", "maximum")):
        edges, counts = found[name]["edges"], found[name]["counts"]
        most = max(counts, default=0)
        rows = [
            (f"{low:.4g}", f"{high:.4g}", f"{count:,}", "█" * math.ceil(30 * count / most))
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ]
        print_table(("from", "to", "features", ""), rows, title=title)
    say(f"{found['silent']:,} of {found['features']:,} features never fired.")


@app.command("columns")
@readable_errors
def write_columns(
    sae: SaeArgument,
    column: Annotated[
        list[str] | None,
        typer.Option(help="density, maximum, score, ...; repeat it. Default: density, maximum."),
    ] = None,
    scorer: Annotated[
        str | None, typer.Option(help="Whose scores. Default: the SAE's usual scorer's.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write numbers of all features to standard output, as CSV; what is not known is empty.

    Example: monosemy sae columns demo --column density --column score --scorer embedding
    """
    names = column or ["density", "maximum"]
    path = f"/saes/{segment(sae)}/columns"
    with connect() as client:
        sent, headers = client.binary(path, column=names, scorer=scorer)
    count = headers.get("X-Rows", "")
    rows = int(count) if count.isdecimal() else -1
    if headers.get("X-Columns") != ",".join(names) or len(sent) != 4 * rows * len(names):
        fail("The service answers, but not with these columns.")
    values = array.array("f", sent)
    if sys.byteorder == "big":
        values.byteswap()
    if as_json:
        print_json(
            {
                name: [None if math.isnan(v) else v for v in values[i * rows : (i + 1) * rows]]
                for i, name in enumerate(names)
            }
        )
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["index", *names])
    for row in range(rows):
        known = values[row::rows]
        writer.writerow([row, *("" if math.isnan(v) else f"{v:.7g}" for v in known)])


@app.command()
@readable_errors
def export(
    sae: SaeArgument,
    destination: Annotated[Path, typer.Argument(help="Folder to make.")],
    form: Annotated[Form, typer.Option("--format", help="Layout to write.")] = Form.saelens,
    as_json: JsonFlag = False,
) -> None:
    """Copy an SAE out of the artifacts of this machine, as SAELens or sparsify reads it; a
    cross-layer transcoder also as circuit-tracer does.

    Example: monosemy sae export demo ./demo-sae
    """
    detail = connect().get(f"/saes/{segment(sae)}")
    export_saes([detail["path"]], destination, form)
    if as_json:
        print_json({"id": detail["id"], "name": detail["name"], "folder": str(destination)})
    else:
        say(READ_BY[form].format(destination))


@app.command()
@readable_errors
def upload(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of an SAE, or an archive of one.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Send an SAE's folder to the service, to be imported; prints the import's source.

    Example: monosemy sae upload ./my-sae
    """
    receipt = connect().upload("/saes/uploads", _to_send(source))
    if as_json:
        print_json(receipt)
        return
    size = f"{len(receipt['files'])} files, {receipt['bytes']:,} bytes"
    say(f"{size}, kept until {moment(receipt['expires_at'])}.")
    say(f"Import it: monosemy run submit --kind import --set source={receipt['source']}")
    out.print(receipt["source"], highlight=False)


def _to_send(source: Path) -> list[tuple[str, Path]]:
    """(name, file) of what the service takes; a folder's own name may say what its SAE reads."""
    if source.is_file():
        return [(source.name, source)]
    if not source.is_dir():
        fail(f"There is no folder {source}.")
    name = source.resolve().name
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    sent = [path for path in files if path.suffix.lower() in ALLOWED]
    left_out = sorted({path.name for path in files} - {path.name for path in sent})
    if left_out:
        say(f"Not sent: {', '.join(left_out[:10])}{' ...' if len(left_out) > 10 else ''}.")
    if not any(path.suffix.lower() in WEIGHTS for path in sent):
        fail(f"{source} holds no {' or '.join(WEIGHTS)} file, so no SAE that can be imported.")
    return [(f"{name}/{path.relative_to(source).as_posix()}", path) for path in sent]


@readable_errors
def models(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the host models that SAEs were trained on.

    Example: monosemy models
    """
    page = connect().get("/models", limit=limit)
    if as_json:
        print_json(page)
        return
    figures = ("architecture", "n_layers", "d_model")
    rows = [
        (each["name"], *(each["info"].get(name) for name in figures), each["saes"])
        for each in page["items"]
    ]
    print_table(("name", "architecture", "layers", "d_model", "SAEs"), rows)


@app.command()
@readable_errors
def delete(
    sae: SaeArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an SAE with all that is known of its features; 'monosemy gc' removes its files.

    Example: monosemy sae delete demo --yes
    """
    client = connect()
    detail = client.get(f"/saes/{segment(sae)}")
    counts = detail["features"]
    if not yes:
        typer.confirm(
            f"{detail['name']}: {counts['indexed']} features, {counts['explained']} of them"
            " explained. Delete all that?",
            abort=True,
            err=True,
        )
    client.delete(f"/saes/{detail['id']}")
    say(f"{detail['name']}: deleted; its files stay until 'monosemy gc --delete'.")


def _places(hooks: list[dict[str, Any]]) -> str:
    """One after the other, with the role of a host model that is not the SAE's own."""
    return ", ".join(
        each["site"] if each["host"] == HOST else f"{each['host']}:{each['site']}" for each in hooks
    )
