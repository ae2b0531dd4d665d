"""A short name for a feature out of its evidence, by fixed rules: no LLM, no chance.

Shares are shares of the feature's total activation; a class counts only if it is also several
times more frequent among the feature's tokens than in the text.  The first rule that holds names
the feature:

1.  it never fired                                     -> ``never fired``
2.  it fires on 10 % of all tokens or more             -> ``dense (41 % of tokens)``
3.  one token has half, and twice the next one's share  -> ``token " king" (83 %)``;
    one word written in several ways has half          -> ``word "king" (83 %)``
4.  half stands first in a row (3x its base rate)      -> ``start of row (61 %)``;
    half stands right after a line break (same)        -> ``start of line (70 %)``
5.  at most 4 tokens have 60 %                         -> ``tokens "ing", "ed" (71 %)``
6.  one preceding token has 60 % (3x its base rate)    -> ``after " the" (66 %)``
7.  a class has 70 % (2x its base rate)                -> ``numbers (93 %)``, ``punctuation``,
    ``line breaks``, ``white space``, ``words in capitals``, ``capitalised words``,
    ``non-Latin letters``
8.  an ending has 60 % (3x its base rate)              -> ``words ending in "ing" (64 %)``
9.  one preceding token has 40 % (3x)                  -> ``after " the" (45 %)``
10. a token is promoted 8 standard deviations above the vocabulary's mean
                                                       -> ``promotes " of", " for"``
11. otherwise the three foremost tokens                -> ``mixed: " a" (12 %), " b" (8 %)``

Below 10 firings the number of firings is given too.

That is what the feature fires on most often.  Where at least half of its strongest firings (of 8 or
more documents) lie in one word, its forms together, and the label does not name that word, it is
added: ``capitalised words (93 %); most strongly "Paris" (14 of 16)``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from monosemy.index.strongest_words import same_word

if TYPE_CHECKING:
    from monosemy.index.evidence import FeatureEvidence

DENSE = 0.10
ONE_TOKEN = 0.5
PLACE, PLACE_LIFT = 0.5, 3.0
FEW_TOKENS, FEW = 0.6, 4
STRONG_PREVIOUS, WEAK_PREVIOUS, PREVIOUS_LIFT = 0.6, 0.4, 3.0
CLASS, CLASS_LIFT = 0.7, 2.0
ENDING, ENDING_LIFT = 0.6, 3.0
PROMOTED_DEVIATIONS = 8.0
FEW_FIRINGS = 10
STRONGEST_SHARE, LEAST_STRONGEST = 0.5, 8

ROW_START = "start of row"
LINE_START = "start of line"
PLACES = (ROW_START, LINE_START)

LABEL_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("never fires", ("never fired",)),
    ("dense", ("dense (",)),
    ("one or few tokens", ("token ", "tokens ", "word ")),
    ("place in a row or line", tuple(f"{place} (" for place in PLACES)),
    ("after a token", ("after ",)),
    ("word ending", ("words ending in ",)),
    ("promotes tokens", ("promotes ",)),
    ("mixed", ("mixed:",)),
    ("class of tokens", ("",)),
)
"""What kind of thing a label says, and how labels of each kind begin; the first that fits."""


def evidence_label(evidence: FeatureEvidence) -> str:
    """The label of one feature; the rules are in this module's docstring."""
    often = _most_often(evidence)
    strongly = _most_strongly(evidence, often)
    return f"{often}; most strongly {strongly}" if strongly else often


def _most_strongly(evidence: FeatureEvidence, often: str) -> str | None:
    """The word in which it fires most strongly, where there is one that ``often`` does not name."""
    n = evidence.strongest_firings
    if n < LEAST_STRONGEST or not evidence.strongest_words:
        return None
    first = evidence.strongest_words[0]
    named = re.findall(r"\w+", often.casefold())
    is_named = any(same_word(first.word.casefold(), word) for word in named)
    if first.count < STRONGEST_SHARE * n or is_named or quote(first.word) in often:
        return None
    return f"{quote(first.word)} ({first.count} of {n})"


def _most_often(evidence: FeatureEvidence) -> str:
    if evidence.count == 0:
        return "never fired"
    if evidence.density >= DENSE:
        return f"dense ({_percent(evidence.density)} of tokens)"
    for rule in (
        _one_token,
        _place,
        _few_tokens,
        _strong_previous,
        _token_class,
        _word_ending,
        _weak_previous,
        _promoted,
    ):
        label = rule(evidence)
        if label is not None:
            return label
    listed = ", ".join(f"{quote(t.text)} ({_percent(t.share)})" for t in evidence.top_tokens[:3])
    return f"mixed: {listed}"


def quote(text: str) -> str:
    r"""Text in quotes, with line breaks and control characters visible (``\n``)."""
    visible = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text.replace("\\", "\\\\")
    )
    return f"'{visible}'" if '"' in visible and "'" not in visible else f'"{visible}"'


def _percent(share: float) -> str:
    """``83 %``; small shares keep two digits."""
    value = min(share, 1.0) * 100
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"


def _share(evidence: FeatureEvidence, share: float) -> str:
    if evidence.token_firings < FEW_FIRINGS:
        firings = "firing" if evidence.token_firings == 1 else "firings"
        return f"({_percent(share)} of {evidence.token_firings} {firings})"
    return f"({_percent(share)})"


def _one_token(evidence: FeatureEvidence) -> str | None:
    tokens = evidence.top_tokens
    if not tokens:
        return None
    words: dict[str, list[float]] = {}
    for token in tokens:
        words.setdefault(token.text.strip().casefold(), []).append(token.share)
    word, shares = max(words.items(), key=lambda item: sum(item[1]))
    several_ways = len(shares) > 1 and sum(shares) - max(shares) >= 0.1
    if word and several_ways and sum(shares) >= ONE_TOKEN:
        noun = "word" if word.isalpha() else "token"
        return f"{noun} {quote(word)} {_share(evidence, sum(shares))}"
    second = tokens[1].share if len(tokens) > 1 else 0.0
    if tokens[0].share >= max(ONE_TOKEN, 2 * second):
        return f"token {quote(tokens[0].text)} {_share(evidence, tokens[0].share)}"
    return None


def _place(evidence: FeatureEvidence) -> str | None:
    for item in evidence.classes:
        if item.name in PLACES and item.share >= PLACE and item.share >= PLACE_LIFT * item.base:
            return f"{item.name} {_share(evidence, item.share)}"
    return None


def _few_tokens(evidence: FeatureEvidence) -> str | None:
    total = 0.0
    for number, token in enumerate(evidence.top_tokens[:FEW], start=1):
        total += token.share
        if total >= FEW_TOKENS:
            listed = ", ".join(quote(t.text) for t in evidence.top_tokens[:number])
            return f"tokens {listed} {_share(evidence, total)}"
    return None


def _previous(evidence: FeatureEvidence, least: float) -> str | None:
    if not evidence.previous_tokens:
        return None
    first = evidence.previous_tokens[0]
    # fires = firings after it / its occurrences, so lift = fires / density of the feature.
    if first.share >= least and first.fires >= PREVIOUS_LIFT * evidence.density:
        return f"after {quote(first.text)} {_share(evidence, first.share)}"
    return None


def _strong_previous(evidence: FeatureEvidence) -> str | None:
    return _previous(evidence, STRONG_PREVIOUS)


def _weak_previous(evidence: FeatureEvidence) -> str | None:
    return _previous(evidence, WEAK_PREVIOUS)


def _token_class(evidence: FeatureEvidence) -> str | None:
    for item in evidence.classes:
        if item.name in PLACES:
            continue
        if item.share >= CLASS and item.share >= CLASS_LIFT * item.base:
            return f"{item.name} {_share(evidence, item.share)}"
    return None


def _word_ending(evidence: FeatureEvidence) -> str | None:
    ending = evidence.ending
    if ending is None or ending.share < ENDING or ending.share < ENDING_LIFT * ending.base:
        return None
    return f"words ending in {quote(ending.name)} {_share(evidence, ending.share)}"


def _promoted(evidence: FeatureEvidence) -> str | None:
    least = PROMOTED_DEVIATIONS * evidence.logit_std
    strong = [quote(t.text) for t in evidence.promoted[:3] if least > 0 and t.effect >= least]
    return f"promotes {', '.join(strong)}" if strong else None
