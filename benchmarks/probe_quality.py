"""How well a probe of SmolLM2's states judges whether a text fits a description.

    OMP_NUM_THREADS=1 python benchmarks/probe_quality.py TEXT.jsonl[.gz] [--texts 8] [--splits 5]

Ground truth in place of an expensive judge (a real judge of any worth does not fit on a small
machine): 42 descriptions with a rule each (a word list or a pattern), 26-word windows of the given
text, as many that fit as do not, drawn anew for every seed.  The probe is trained and tested by
``fit_probe``: no description is on both sides, and TF-IDF goes through the same splits.  One row
for the views that read both in one prompt, one for ``relation``, one for a probe that may choose
among all, and one whose answers are shuffled.  Medians over ``--splits`` seeds; ``serves`` counts
those in which the probe is shown to beat TF-IDF.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monosemy.interp.probe.items import JudgedItem
from monosemy.interp.probe.relation import RELATION
from monosemy.interp.probe.states import ProbeStates
from monosemy.interp.probe.train import fit_probe
from monosemy.models.host import HostModel
from monosemy.specs import ModelSpec
from monosemy.workspace import Workspace

LISTS = {
    "Names of months.": (
        "january february march april june july august september october november december"
    ),
    "Days of the week.": "monday tuesday wednesday thursday friday saturday sunday",
    "Names of colours.": "red blue green yellow black white brown pink purple orange grey gray",
    "Members of a family.": (
        "mother father brother sister son daughter uncle aunt grandmother grandfather "
        "parents cousin"
    ),
    "Animals.": (
        "dog dogs cat cats horse horses bird birds fish cow cows sheep pig pigs bear "
        "lion elephant animals animal"
    ),
    "Food and meals.": (
        "food bread meat cheese rice fruit vegetables soup dinner lunch breakfast cook cooking meal"
    ),
    "Parts of the body.": (
        "hand hands head eye eyes heart face arm arms leg legs foot feet brain blood skin"
    ),
    "Money, prices and payments.": "money dollars dollar price pay paid cost costs bank euros cash",
    "War and soldiers.": "war army soldiers military battle weapons troops navy killed",
    "Schools, teachers and students.": (
        "school schools student students teacher teachers university college class education"
    ),
    "Illness and medicine.": (
        "disease doctor hospital patients patient medical medicine health cancer treatment"
    ),
    "Religion and belief.": "god church jesus bible religious religion christian prayer faith holy",
    "Music.": "music song songs band album guitar piano singer concert",
    "Sports and games.": "game games team teams player players football season coach league match",
    "Computers and software.": (
        "computer software internet computers website data digital online user users code"
    ),
    "Water, rivers and the sea.": "water river sea ocean lake rivers island beach",
    "Weather.": "rain snow wind storm weather temperature sunny cold hot winter summer",
    "Government and elections.": (
        "government president election party minister vote congress political parliament state"
    ),
    "Courts and the law.": "court law judge legal lawyer police crime criminal prison laws",
    "Travel by car, train or plane.": (
        "car cars train plane flight drive driving road airport bus travel"
    ),
    "Countries of Europe.": (
        "england france germany italy spain britain poland greece sweden ireland"
    ),
    "Large cities.": "london paris york chicago tokyo berlin moscow rome boston",
    "Words of negation.": "not never no nothing nobody none cannot",
    "Words that tell a reason.": "because since therefore thus hence reason",
    "Comparisons and superlatives.": (
        "better best worse worst more most greater greatest larger largest"
    ),
    "Science and research.": (
        "study research scientists scientific theory experiment studies researchers"
    ),
    "Plants and gardens.": "tree trees plant plants garden flowers flower forest leaves seeds",
    "Houses and rooms.": "house room door kitchen window home bedroom floor wall",
    "Feelings.": "love happy sad fear angry hate joy afraid feel feeling",
    "Numbers written as words.": (
        "one two three four five six seven eight nine ten hundred thousand"
    ),
    "Business and companies.": (
        "company business companies market industry customers sales products firm"
    ),
    "Clothes.": "shirt dress shoes clothes hat coat jacket wear wearing",
    "Children and babies.": "child children baby babies kids kid boy boys girl girls",
    "Writing and books.": "book books author wrote write writing story novel read published",
    "Time of the day.": "morning evening night afternoon noon midnight today",
    "Space and planets.": "earth moon sun planet planets space stars star",
}
PATTERNS = {
    "Digits and numerals.": r"\d",
    "A question.": r"\?",
    "Quoted speech.": r"[\"“”]",
    "Text in parentheses.": r"\([^)]+\)",
    "Years of the twentieth century.": r"\b19\d\d\b",
    "Words in capital letters.": r"\b[A-Z]{3,}\b",
}
WORDS, STRIDE = 26, 60


def rules() -> dict[str, re.Pattern[str]]:
    """A pattern for each description."""
    listed = {
        said: re.compile(rf"\b(?:{'|'.join(words.split())})\b", re.IGNORECASE)
        for said, words in LISTS.items()
    }
    return listed | {said: re.compile(pattern) for said, pattern in PATTERNS.items()}


def windows(path: Path, documents: int) -> Iterator[str]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for _, line in zip(range(documents), lines, strict=False):
            words = json.loads(line)["text"].split()
            for start in range(0, min(len(words) - WORDS, 400), STRIDE):
                yield " ".join(words[start : start + WORDS])


def items_of(path: Path, texts: int, seed: int = 0) -> list[JudgedItem]:
    """No window is used twice."""
    chance = random.Random(seed)
    pool = list(dict.fromkeys(windows(path, 4000)))
    chance.shuffle(pool)
    used: set[str] = set()
    items = []
    for number, (said, pattern) in enumerate(rules().items()):
        for fits in (True, False):
            free = (each for each in pool if each not in used)
            found = [each for each in free if bool(pattern.search(each)) == fits][:texts]
            used.update(found)
            items += [JudgedItem(number, said, each, fits) for each in found]
    return items


def shuffled(items: list[JudgedItem], seed: int) -> list[JudgedItem]:
    """With each other's answers."""
    answers = [item.answer for item in items]
    random.Random(seed).shuffle(answers)
    return [replace(item, answer=a) for item, a in zip(items, answers, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--texts", type=int, default=8, help="that fit, and as many that do not")
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    drawn = [items_of(options.text, options.texts, seed) for seed in range(options.splits)]
    with tempfile.TemporaryDirectory() as folder:
        host = HostModel.load(ModelSpec(), Workspace(folder))
        reader = ProbeStates(host)
        begin = time.perf_counter()
        read = [reader([(item.explanation, item.text) for item in items]) for items in drawn]
        seconds = time.perf_counter() - begin
    count = sum(map(len, drawn))
    print(
        f"{len(drawn[0])} items of {len(rules())} descriptions, {host.name}, one thread: "
        f"{1000 * seconds / count:.0f} ms an item for all views"
    )
    print(f"{'':<22}{'AUROC':>8}{'95 %':>14}{'TF-IDF':>8}{'gain':>7}{'95 %':>15}{'serves':>8}")
    for name, wanted, mixed in (
        ("in one prompt", lambda view: view != RELATION, False),
        ("relation", lambda view: view == RELATION, False),
        ("any", lambda view: True, False),  # noqa: ARG005
        ("relation, shuffled", lambda view: view == RELATION, True),
    ):
        reports = []
        for seed, (items, states) in enumerate(zip(drawn, read, strict=True)):
            views = {view: found for view, found in states.items() if wanted(view)}
            given = shuffled(items, seed) if mixed else items
            reports.append(fit_probe(given, views, reader.source(), seed=seed).report)
        told = [report.as_dict() for report in reports]

        def median(part: str, field: str, told: list[dict[str, Any]] = told) -> float:
            return statistics.median(each[part][field] for each in told)

        print(
            f"{name:<22}{median('probe', 'value'):>8.3f}"
            f"{median('probe', 'low'):>8.2f} -{median('probe', 'high'):>4.2f}"
            f"{median('baseline', 'value'):>8.3f}{median('gain', 'value'):>+7.3f}"
            f"{median('gain', 'low'):>+8.3f} -{median('gain', 'high'):>+6.3f}"
            f"{sum(report.serves for report in reports):>5} of {len(reports)}"
        )
        kept = [each["agreement_kept"]["value"] or np.nan for each in told]
        asked = [each["escalated"]["value"] for each in told]
        print(
            f"{'':<22}asks the judge about {statistics.median(asked):.0%}, agrees on "
            f"{statistics.median(kept):.0%} of the rest"
        )


if __name__ == "__main__":
    main()
