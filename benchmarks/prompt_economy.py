"""Input tokens per feature for an explanation, detection and fuzzing: ours beside delphi's.

    python benchmarks/prompt_economy.py [--features 20] [--delphi SITE] [--home FOLDER]

At the paper's setting (Paulo et al., table 1): 40 examples to explain from, 100 judgements by
detection and 100 by fuzzing, 5 texts a call.  Ours are the very prompts, taken down by a rehearsal
judge.  With ``--delphi`` (a folder that holds the package eai-delphi) its published prompts are
filled with the same texts; without it stand the paper's own figures, of another tokenizer and
other texts.  All are counted by SmolLM2's tokenizer, chat template included.  The index is that of
a short pipeline over packaged text, kept in ``--home``.  ``--json FILE`` adds the result as a line.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from results import Line, append, machine

import monosemy
from monosemy.interp.judging.rehearsal import RehearsalJudge
from monosemy.interp.labelling import explain_one, score_one
from monosemy.interp.registry import create_explainer, create_scorer
from monosemy.interp.shown import ShownExample
from monosemy.interp.texts import FeatureTexts, choose_features
from monosemy.interp.tools import Tools
from monosemy.specs import ExplanationSpec, FeatureSelection, ScoringSpec

PAPER = {"explanation": 1_000, "detection": 17_000, "fuzzing": 19_600}
"""Input tokens per feature, table 1."""
EXPLANATION = (
    "Words and short phrases that name a particular kind of place, most of all where a text "
    "introduces it for the first time."
)
PIPELINE = {
    "text": {"max_tokens": 400_000},
    "sae": {"d_sae": 1024},
    "training": {"tokens": 150_000, "buffer_tokens": 16_384},
    "evaluation": None,
    "explanation": None,
    "scoring": None,
}
JUDGED, SHOWN, PER_CALL = 50, 40, 5
Messages = Sequence[dict[str, str]]


class Counter:
    """Tokens of a chat, by the host model's tokenizer and template."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, chats: Sequence[Messages]) -> int:
        texts = [
            self.tokenizer.apply_chat_template(
                list(chat), tokenize=False, add_generation_prompt=True
            )
            for chat in chats
        ]
        return sum(len(ids) for ids in self.tokenizer(texts)["input_ids"])


def ours(
    texts: FeatureTexts, feature: int, per_call: int
) -> tuple[dict[str, list[Messages]], dict[str, int]]:
    """What we would send, by stage, and how many judgements that asks for."""
    rehearsal = RehearsalJudge(ScoringSpec().judge)
    tools = Tools(judge=rehearsal.as_judge())
    prompts: dict[str, list[Messages]] = {}
    judged: dict[str, int] = {}

    def taken() -> list[Messages]:
        sent = [question.messages for question in rehearsal.questions]
        rehearsal.questions.clear()
        return sent

    explaining = ExplanationSpec(examples=SHOWN)
    asyncio.run(explain_one(texts, feature, explaining, create_explainer(explaining, tools)))
    prompts["explanation"] = taken()
    for scorer in ("detection", "fuzzing"):
        spec = ScoringSpec(
            scorer=scorer,
            # Fuzzing judges a context once, with right marks or with wrong ones.
            positives=2 * JUDGED if scorer == "fuzzing" else JUDGED,
            negatives=JUDGED,
            texts_per_call=per_call,
            shuffled_baseline=False,
        )
        asyncio.run(score_one(texts, feature, spec, create_scorer(spec, tools), EXPLANATION, None))
        judged[scorer] = sum(len(each.schema["properties"]) for each in rehearsal.questions)
        prompts[scorer] = taken()
    return prompts, judged


# -------------------------------------------------------------------- delphi
def module(site: Path, path: str) -> ModuleType:
    """One file of the package, without the package (which wants a GPU's worth of others)."""
    name = "delphi_" + path.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, site / "delphi" / path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def delphis(
    site: Path, texts: FeatureTexts, feature: int
) -> tuple[dict[str, list[Messages]], dict[str, int]]:
    """Its prompts around the same texts; negatives and wrong marks stand in for by positives, which
    are as long."""
    detection = module(site, "scorers/classifier/prompts/detection_prompt.py")
    fuzz = module(site, "scorers/classifier/prompts/fuzz_prompt.py")
    prompts = module(site, "explainers/default/prompts.py")
    explaining = ExplanationSpec(examples=SHOWN)
    tools = Tools(judge=RehearsalJudge(explaining.judge).as_judge())
    shown = texts.to_explain(feature, explaining, create_explainer(explaining, tools))
    spec = ScoringSpec(positives=JUDGED, negatives=JUDGED)
    examples = [example for _, example in texts.to_score(feature, spec).with_tiers()]
    prompts_by_task: dict[str, list[Messages]] = {
        "explanation": [_explanation(prompts, shown.activating)],
        "detection": [],
        "fuzzing": [],
    }
    for first in range(0, len(examples), PER_CALL):
        part = examples[first : first + PER_CALL]
        for stage, source, marks in (("detection", detection, False), ("fuzzing", fuzz, True)):
            lines = "\n".join(
                f"Example {i}: {marked(each) if marks else each.text}"
                for i, each in enumerate(part)
            )
            prompts_by_task[stage].append(source.prompt(examples=lines, explanation=EXPLANATION))
    return prompts_by_task, {"detection": len(examples), "fuzzing": len(examples)}


def _explanation(prompts: ModuleType, shown: Sequence[ShownExample]) -> Messages:
    lines = "\n".join(f"Example {i}:  {marked(each)}" for i, each in enumerate(shown, 1))
    few_shot = [
        {"role": role, "content": content}
        for number in (1, 2, 3)
        for role, content in zip(
            ("user", "assistant"),
            prompts.example(number, activations=False, cot=False),
            strict=True,
        )
    ]
    return [*prompts.system(cot=False), *few_shot, {"role": "user", "content": f"\n{lines}\n"}]


def marked(example: ShownExample) -> str:
    """With << and >> around what is above 30 % of the strongest, as delphi marks."""
    least, peak = 0.3 * example.peak, example.peak
    parts, inside = [], False
    for piece, level in zip(example.pieces, example.levels, strict=True):
        now = peak > 0 and level > least
        parts.append(("<<" if now and not inside else ">>" if inside and not now else "") + piece)
        inside = now
    return "".join(parts) + (">>" if inside else "")


# -------------------------------------------------------------------- the table
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--delphi", type=Path)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        made = monosemy.pipeline(PIPELINE, home=options.home or temporary)
        texts = made.texts
        wanted = FeatureSelection(count=options.features, min_postings=2000, max_density=0.05)
        features = choose_features(texts, wanted)
        count = Counter(made.host.tokenizer)
        rows = {
            "ours, 5 texts a call": [measured(*ours(texts, f, PER_CALL), count) for f in features],
            "ours, 10 texts a call": [measured(*ours(texts, f, 10), count) for f in features],
        }
        if options.delphi is not None:
            rows["delphi's prompts"] = [
                measured(*delphis(options.delphi, texts, f), count) for f in features
            ]
    medians = {
        name: {stage: statistics.median(row[stage] for row in counts) for stage in PAPER}
        for name, counts in rows.items()
    }
    medians["delphi, the paper's figures"] = dict(PAPER)
    print(f"input tokens per feature, medians of {len(features)} features of SmolLM2")
    print(f"{'':<30}{'explanation':>12}{'detection':>12}{'fuzzing':>12}{'together':>12}")
    for name, stages in medians.items():
        total = sum(stages.values())
        print(f"{name:<30}" + "".join(f"{n:>12,.0f}" for n in (*stages.values(), total)))
    if options.json:
        own = sum(medians["ours, 5 texts a call"].values())
        peers = {
            name: float(sum(stages.values()))
            for name, stages in medians.items()
            if name.startswith("delphi")
        }
        work = "explanation, 100 detection and 100 fuzzing judgements per feature"
        line = Line("prompt economy", work, own, "tokens", peers, None, len(features), machine())
        append(options.json, line)


def measured(
    chats: dict[str, list[Messages]], judged: dict[str, int], count: Counter
) -> dict[str, float]:
    """Tokens of each stage, as if it asked for just 100 judgements: rare features have fewer."""
    return {
        stage: count(sent) * (2 * JUDGED / judged[stage] if stage in judged else 1)
        for stage, sent in chats.items()
    }


if __name__ == "__main__":
    main()
