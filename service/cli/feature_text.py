"""A feature in words and colours, for the terminal."""

from __future__ import annotations

from typing import Any

from monosemy.specs.latent_classes import LatentClass
from service.cli.output import number, plain

_MARK_SHARE = 0.3
"""Tokens above this share of an example's peak are coloured."""


def evidence_lines(page: dict[str, Any]) -> list[str]:
    """What is known of a feature without any LLM."""
    evidence = page["evidence"]
    lines = [
        f"[bold]heading[/]     {plain(page['heading']['text'])}",
        f"            [dim]{plain(page['heading']['why'])}[/]",
        f"[bold]evidence[/]    {plain(page['label'])}",
        f"[bold]fires on[/]    {page['density']:.3%} of tokens, up to {page['max_activation']:.2f}",
    ]
    if page["tags"]:
        lines.append(f"[bold]tags[/]        {plain(', '.join(page['tags']))}")
    tops = ", ".join(f"{t['text']!r} {t['share']:.0%}" for t in evidence["top_tokens"][:6])
    if tops:
        lines.append(f"[bold]top tokens[/]  {plain(tops)} of its activation")
    if evidence["strongest_words"]:
        words = ", ".join(f"{w['word']!r} {w['count']}" for w in evidence["strongest_words"])
        n = evidence["strongest_firings"]
        lines.append(f"[bold]strongest[/]   {plain(words)} of {n} strongest documents")
    for title, key in (("promotes", "promoted"), ("suppresses", "suppressed")):
        tokens = ", ".join(repr(effect["text"]) for effect in evidence[key][:6])
        if tokens:
            lines.append(f"[bold]{title:<11}[/] {plain(tokens)}")
    return [*lines, *place_lines(page)]


def place_lines(page: dict[str, Any]) -> list[str]:
    """Where a feature of an SAE at several places reads and writes: shares of the squared lengths
    of its rows."""
    lines = []
    for side in ("reads", "writes"):
        there = [each for each in page["evidence"]["places"] if each[side]]
        whole = sum(each[side] ** 2 for each in there)
        for row, place in enumerate(there):
            promoted = place["promoted"] if side == "writes" else []
            tokens = ", ".join(repr(effect["text"]) for effect in promoted)
            words = f"{place['place']} {place[side] ** 2 / whole:.1%}"
            words += f", promotes {tokens}" if tokens else ""
            lines.append(f"[bold]{'' if row else side:<11}[/] {plain(words)}")
    if page["latent_class"]:
        lines.append(
            f"[bold]class[/]       {page['latent_class']}, by its decoder norms; {_scaled(page)}"
        )
    return lines


def _scaled(page: dict[str, Any]) -> str:
    """What latent scaling says of a crosscoder's latent."""
    scaling = page["latent_scaling"]
    if scaling is None:
        looks = page["latent_class"] == LatentClass.EXCLUSIVE
        return "whether it only looks so is unknown" if looks else "not evaluated"
    error, reconstruction = (
        number(scaling[name], ".2f") for name in ("nu_error", "nu_reconstruction")
    )
    verdict = {True: "in truth, ", False: "only looks so, ", None: ""}[scaling["genuine"]]
    return f"{verdict}elsewhere {error} in the error and {reconstruction} in the reconstruction"


def explanation_lines(page: dict[str, Any]) -> list[str]:
    """Explanations of a feature by LLMs, each with its scores."""
    lines = []
    for explanation in page["explanations"]:
        lines.append(
            f"[bold]LLM[/]         {plain(explanation['label'])}: {plain(explanation['text'])}"
        )
        lines.append(
            f"            [dim]by {plain(explanation['judge'])}{judge_text(explanation)}[/]"
        )
        lines += [
            f"[bold]score[/]       {plain(score_text(score))}" for score in explanation["scores"]
        ]
    return lines


def neighbour_lines(page: dict[str, Any]) -> list[str]:
    """The nearest features, by direction and by where they fire."""
    lines = []
    for title, key in (("near", "cosine"), ("fires with", "coactive")):
        for place, near in enumerate(page["neighbours"][key][:3]):
            what = plain(near["heading"] or "")
            head = f"[bold]{title if place == 0 else '':<11}[/]"
            lines.append(f"{head} {near['feature']} ({near['value']:.2f}) {what}")
    return lines


def score_text(score: dict[str, Any]) -> str:
    """Never a value without n, interval and baseline."""
    if score["value"] is None:
        return f"{score['scorer']}: no judgement could be had ({score['n_failed']} failed)"
    baseline = score["baseline"]
    shuffled = "none" if baseline is None else f"{baseline:.2f}"
    return (
        f"{score['scorer']} {score['value']:.2f} (95 % {score['low']:.2f} to {score['high']:.2f}, "
        f"n = {score['n']}, {score['n_failed']} failed; shuffled explanation: {shuffled})"
        f"{judge_text(score)}"
    )


def judge_text(row: dict[str, Any]) -> str:
    """What is known of the judge that gave this explanation or score; empty where none did."""
    if not row["judge"]:
        return ""
    test = row["judge_test"]
    if test is None:
        return "; judge not tested"
    return (
        f"; judge {test['role']} {test['accuracy']:.2f} (95 % {test['low']:.2f} to "
        f"{test['high']:.2f}, n = {test['n']}; guessing {test['chance']:.2f})"
    )


def example_text(example: dict[str, Any]) -> str:
    """The window on one line as markup, its firing tokens marked; a line end shows where it
    fires."""
    peak = max(example["activations"], default=0.0)
    parts = []
    for token, activation in zip(example["tokens"], example["activations"], strict=True):
        strong = peak > 0 and activation >= _MARK_SHARE * peak
        text = plain(token.replace("\n", "\u21b5" if strong else " ").replace("\t", " "))
        if strong and text.strip():
            # Marked with more than colour: a log has none.
            space = text[: len(text) - len(text.lstrip())]
            text = f"{space}[bold green]«{text.lstrip()}»[/]"
        parts.append(text)
    return "".join(parts).strip()
