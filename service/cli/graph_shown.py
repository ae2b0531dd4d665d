"""Graphs as ``monosemy graph`` shows them."""

from __future__ import annotations

from typing import Any

from service.cli.feature_circuits import show_feature_circuit
from service.cli.output import number, print_table, printable, tell

_LISTED = 20
"""Features of a circuit that are named."""


def show_listed(items: list[dict[str, Any]]) -> None:
    rows = [
        (
            each["name"],
            each["model"],
            each["set"] or ("uploaded" if each["run"] is None else ", ".join(each["saes"])),
            ", ".join(printable(goal["label"]) for goal in each["goals"][:3]),
            str(each["nodes"]),
            str(each["edges"]),
            f"{each['pruned']['replacement']:.3f} of {each['whole']['replacement']:.3f}",
            "yes" if each["checked"] else "",
        )
        for each in items
    ]
    columns = ("name", "model", "SAEs", "explains", "nodes", "edges", "replacement", "checked")
    print_table(columns, rows)


def show_graph(graph: dict[str, Any]) -> None:
    if graph["feature_circuit"] is not None:
        show_feature_circuit(graph)
        return
    tell(f"{graph['name']}: {printable(graph['prompt'])}")
    made_with = graph["set"] or ", ".join(graph["saes"])
    tell(f"{graph['model']}" + (f" through {made_with}" if made_with else ", uploaded"))
    for note in graph["notes"]:
        tell(note)
    goals = [
        (printable(each["label"]), f"{each['weight']:.3f}", f"{each['value']:.3f}")
        for each in graph["goals"]
    ]
    print_table(("explains", "weight", "value"), goals)
    scores = [
        (
            name,
            f"{graph[name]['replacement']:.3f}",
            f"{graph[name]['completeness']:.3f}",
            f"{graph[name]['completeness_ct']:.3f}",
        )
        for name in ("whole", "pruned")
    ]
    print_table(("graph", "replacement", "completeness", "as circuit-tracer has it"), scores)
    tell(
        f"{graph['nodes']} nodes and {graph['edges']} edges are kept. {graph['traced']} features"
        f" were traced; {graph['untraced']:.2%} of the influence ends in others. Rows miss"
        f" {graph['rounding']:.1e} of their mass at most, and keep {graph['least_row_mass']:.1%}"
        " of it at least."
    )
    if graph["check"] is None:
        tell("It was not checked by ablation.")
    else:
        _show_check(graph["check"])


def _show_check(check: dict[str, Any]) -> None:
    rows = []
    for part in ("nodes", "edges"):
        for which in ("strongest", "matched", "mlps_held"):
            one = (check[part] or {}).get(which)
            if one is not None:
                rows.append(
                    (
                        f"{part}, {which.replace('_', ' ')}",
                        str(one["n"]),
                        _interval(one["slope"]),
                        _interval(one["spearman"]),
                        "" if one["same_sign"] is None else f"{one['same_sign']:.0%}",
                    )
                )
    title = f"ablation, of {printable(check['goal'])}"
    print_table(("", "n", "real per predicted", "rank correlation", "same sign"), rows, title=title)
    shares = [
        (
            name.replace("_", " "),
            str(check[name]["features"]),
            number(check[name]["kept"], ".2f"),
            _interval(check[name]["random_kept"]),
            number(check[name]["lost"], ".2f"),
            _interval(check[name]["random_lost"]),
        )
        for name in ("with_errors", "without_errors")
    ]
    columns = ("circuit", "features", "kept", "by random ones", "lost", "by random ones")
    print_table(columns, shares)
    search = check["search"]
    if search is not None and search["features"] is None:
        tell(f"No circuit keeps {search['wanted']:.0%}.")
    elif search is not None:
        members = ", ".join(search["names"][:_LISTED])
        more = " ..." if len(search["names"]) > _LISTED else ""
        tell(
            f"The smallest circuit that keeps {search['wanted']:.0%} has {search['features']}"
            f" features ({search['kept']:.2f}): {members}{more}"
        )


def _interval(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"
