"""A feature in words and colours, for the terminal."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

_MARK_SHARE = 0.3
"""Tokens above this share of an example's peak are coloured."""


def evidence_lines(page: dict[str, Any]) -> list[str]:
    """What is known of a feature without any LLM."""
    evidence = page["evidence"]
    lines = [
        f"[bold]evidence[/]    {escape(page['label'])}",
        f"[bold]fires on[/]    {page['density']:.3%} of tokens, up to {page['max_activation']:.2f}",
    ]
    for title, key in (("promotes", "promoted"), ("suppresses", "suppressed")):
        tokens = ", ".join(repr(effect["text"]) for effect in evidence[key][:6])
        if tokens:
            lines.append(f"[bold]{title:<11}[/] {escape(tokens)}")
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
    )


def example_text(example: dict[str, Any]) -> str:
    """The window on one line, its firing tokens coloured."""
    peak = max(example["activations"], default=0.0)
    parts = []
    for token, activation in zip(example["tokens"], example["activations"], strict=True):
        text = escape(token.replace("\n", " "))
        strong = peak > 0 and activation >= _MARK_SHARE * peak
        if strong and text.strip():
            # Marked with more than colour: a log has none.
            space = text[: len(text) - len(text.lstrip())]
            text = f"{space}[bold green]«{text.lstrip()}»[/]"
        parts.append(text)
    return "".join(parts).strip()
