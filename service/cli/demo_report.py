"""What the demo prints at the end: figures, three features, what to try next."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from service.cli.client import Client, segment
from service.cli.feature_text import example_text, score_text
from service.cli.following import say_what_failed

SHOWN_FEATURES = 3
_SPEAKING = ("token ", "tokens ", "word ", "words ", "numbers", "capitalised", "after ")
"""How labels begin that name one clear thing."""

_BETTER_JUDGE = """\
The judge was the packaged 135M model. To explain with a better one, stop, name it, and start again:
  export MONOSEMY_JUDGE_URL=https://.../v1 MONOSEMY_JUDGE_MODEL=... MONOSEMY_JUDGE_API_KEY=...
  make demo
and in another terminal
  monosemy explain {name} --count 20
  monosemy score {name}"""


def show_first_features(client: Client, sae: dict[str, Any], console: Console, url: str) -> None:
    """Prints what there is as soon as the index is: labels from evidence, and where to look."""
    _by_evidence(client, sae, console)
    _next_steps(console, url, sae["name"])
    console.print()


def report(
    client: Client, run: dict[str, Any], console: Console, url: str | None, local_judge: bool
) -> None:
    """Prints the result of a finished pipeline run, and what to try next at ``url``, if it goes on
    being served."""
    sae = client.get(f"/saes/{run['result']['sae_id']}")
    console.print()
    console.print(_figures(run, sae))
    if run["result"].get("scores"):
        console.print(_scores(run))
    console.print(_minutes(run))
    for child in run["children"]:
        say_what_failed(child)
    _by_evidence(client, sae, console)
    _features(client, run, sae, console)
    _judge(run, console)
    if local_judge:
        console.print(_BETTER_JUDGE.format(name=sae["name"]), highlight=False, soft_wrap=True)
    if url is not None:
        _next_steps(console, url, sae["name"])


def _figures(run: dict[str, Any], sae: dict[str, Any]) -> Table:
    """The SAE's figures beside those of its frozen-decoder baseline."""
    metrics, result = sae["metrics"], run["result"]
    held = metrics.get("evaluation") or {}
    baseline = held.get("frozen_decoder_baseline") or {}
    table = Table(title=f"{sae['name']}  at {sae['site']}", title_justify="left")
    table.add_column("figure")
    table.add_column("SAE", justify="right")
    table.add_column("frozen random decoder", justify="right")
    rate = f"{metrics['tokens_per_second']:,.0f} tokens/s"
    table.add_row("tokens trained on", f"{metrics['tokens']:,}", "the same")
    table.add_row("  at", rate, "")
    rows = [
        ("FVU, held-out text", "fvu", ".3f"),
        ("L0 (latents per token)", "l0", ".1f"),
        ("CE recovered, zero ablation", "ce_recovered_zero", ".1%"),
        ("CE recovered, mean ablation", "ce_recovered_mean", ".1%"),
    ]
    for title, key, how in rows:
        table.add_row(title, _number(held.get(key), how), _number(baseline.get(key), how))
    trained = metrics.get("frozen_decoder_baseline") or {}
    dead = [_number(each.get("dead_share"), ".1%") for each in (metrics, trained)]
    table.add_row("dead latents", *dead)
    index = result["index"]["index"]
    table.add_row("features indexed", f"{index['features']:,} ({index['alive']:,} fire)", "")
    table.add_row("tokens indexed", f"{index['tokens']:,}", "")
    table.add_row("bytes per feature", f"{index['bytes_per_feature']:,.0f}", "")
    return table


def _scores(run: dict[str, Any]) -> Table:
    """Each scorer's mean beside that of shuffled explanations."""
    table = Table(title="Mean scores of the explanations", title_justify="left")
    for column in ("scorer", "explanations", "mean", "shuffled", "gain", "95 %"):
        table.add_column(column, justify="left" if column == "scorer" else "right")
    for score in run["result"].get("scores", []):
        if not score["scored"]:
            continue
        interval = ""
        if score["gain_low"] is not None:
            interval = f"{score['gain_low']:+.2f} to {score['gain_high']:+.2f}"
        means = (_number(score[key], ".2f") for key in ("mean_value", "mean_baseline"))
        gain = _number(score["mean_gain"], "+.2f")
        table.add_row(score["scorer"], str(score["scored"]), *means, gain, interval)
    return table


def _judge(run: dict[str, Any], console: Console) -> None:
    """What the judge's test showed, and what was left out because of it."""
    steps = [run["result"].get("explain") or {}, *run["result"].get("scores", [])]
    tests = [step["judge_test"] for step in steps if step.get("judge_test")]
    for test in {test["role"]: test for test in tests}.values():
        colour = "green" if test["verdict"] == "good" else "yellow"
        verdict = "at chance" if test["verdict"] == "chance" else test["verdict"]
        right = (
            f"{test['accuracy']:.2f} right (95 % {test['low']:.2f} to {test['high']:.2f}, "
            f"n = {test['n']}; guessing {test['chance']:.2f})"
        )
        head = f"[{colour}]The judge's test, {test['role']}: {verdict}[/]"
        console.print(f"{head}, {right}.", highlight=False, soft_wrap=True)
    for score in run["result"].get("scores", []):
        if score.get("stopped"):
            console.print(
                f"Not scored by {score['scorer']}: {escape(score['stopped'])}",
                highlight=False,
                soft_wrap=True,
            )


def _minutes(run: dict[str, Any]) -> Table:
    table = Table(title="Time", title_justify="left")
    for column in ("step", "stage", "done", "minutes"):
        table.add_column(column, justify="right" if column in ("done", "minutes") else "left")
    total = 0.0
    for child in run["children"]:
        for stage in child["stages"]:
            total += stage["elapsed_seconds"]
            done = f"{stage['done']:,} {stage['unit']}"
            step = " ".join(filter(None, (child["kind"], child.get("scorer"))))
            table.add_row(step, stage["stage"], done, f"{stage['elapsed_seconds'] / 60:.2f}")
    table.add_row("", "added up; some ran side by side", "", f"{total / 60:.2f}")
    return table


def _best_scorer(run: dict[str, Any]) -> str:
    """The first that scored anything."""
    scored = [each["scorer"] for each in run["result"].get("scores", []) if each["scored"]]
    return scored[0] if scored else "detection"


def _features(client: Client, run: dict[str, Any], sae: dict[str, Any], console: Console) -> None:
    listed = client.get(
        f"/saes/{sae['id']}/features",
        sort="score",
        order="desc",
        scorer=_best_scorer(run),
        has_explanation=True,
        limit=SHOWN_FEATURES,
    )
    if len(listed["items"]) < SHOWN_FEATURES:
        count = len(listed["items"])
        console.print(f"The judge gave a usable explanation of only {count} sampled features.")
    for item in listed["items"]:
        page = client.get(f"/saes/{sae['id']}/features/{item['index']}")
        console.print(_feature(page))


def _by_evidence(client: Client, sae: dict[str, Any], console: Console) -> None:
    """A few features whose evidence speaks for itself: what every feature has, at no cost."""
    listed = client.get(f"/saes/{sae['id']}/features", limit=200)
    speaking = [item for item in listed["items"] if item["label"].startswith(_SPEAKING)]
    table = Table(title="Labels from evidence alone", title_justify="left")
    for column in ("feature", "label", "fires on"):
        table.add_column(column)
    for item in speaking[:5]:
        table.add_row(str(item["index"]), escape(item["label"]), f"{item['density']:.2%}")
    if speaking:
        console.print(table)


def _feature(page: dict[str, Any]) -> Panel:
    lines = [
        f"[bold]heading[/]   {escape(page['heading']['text'])}",
        f"[bold]evidence[/]  {escape(page['label'])}   fires on {page['density']:.2%} of tokens",
    ]
    for explanation in page["explanations"][:1]:
        label, text = escape(explanation["label"]), escape(explanation["text"])
        lines.append(f"[bold]LLM[/]       {label}: {text}")
        for score in explanation["scores"]:
            lines.append(f"[bold]score[/]     {score_text(score)}")
    promoted = ", ".join(repr(effect["text"]) for effect in page["evidence"]["promoted"][:5])
    lines.append(f"[bold]promotes[/]  {escape(promoted)}")
    tops = [example for example in page["examples"] if example["group"] == "top"][:2]
    lines += [f"[bold]example[/]   {example_text(example)}" for example in tops]
    return Panel("\n".join(lines), title=f"feature {page['index']}", title_align="left")


def _number(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _next_steps(console: Console, url: str, name: str) -> None:
    console.print(
        f"\n[bold]explorer[/]  {url}/saes/{segment(name)}"
        f"\n[bold]API[/]       {url}/api/v1\n[bold]docs[/]      {url}/api/v1/docs",
        highlight=False,
        soft_wrap=True,
    )
    console.print("\nTry next, in another terminal (.venv/bin/monosemy):")
    for line in (
        f"monosemy features {name} --sort density --order desc",
        f"monosemy feature show {name} 42",
        'monosemy search "names of people"',
        f'monosemy activations {name} "The king of France met the queen of England."',
        "monosemy run submit --kind pipeline --set text.source=your.jsonl --watch",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
