"""A judge whose skill is known: it reads which planted concept it is asked about."""

from __future__ import annotations

import random
from dataclasses import dataclass

from monosemy.interp.judge_test.concepts import TEXTS, Concept, concepts
from monosemy.interp.prompts.quoting import quote_marked
from tests.support.stub_server import Answer, Request, asked_about, good, texts_asked

_PLAIN: dict[str, Concept] = {c.shown(i, 0).text: c for c in concepts() for i in range(TEXTS)}
_MARKED: dict[str, Concept] = {
    quote_marked(c.shown(i, 0).runs()): c for c in concepts() for i in range(TEXTS)
}


@dataclass
class PlantedJudge:
    """Answers right with the probabilities given, else something wrong of the right shape."""

    explains: float = 1.0
    detects: float = 1.0
    constant: bool = False
    """One answer to everything."""

    def __call__(self, request: Request) -> Answer:
        chance = random.Random(str(request["messages"]))
        if texts := texts_asked(request):
            claim = next(c for c in concepts() if c.description == asked_about(request))
            if self.constant:
                return good(**dict.fromkeys(texts, True))
            return good(
                **{
                    name: (_PLAIN[text] is claim) == (chance.random() < self.detects)
                    for name, text in texts.items()
                }
            )
        content = request["messages"][-1]["content"]
        [about] = {id(c): c for text, c in _MARKED.items() if f": {text}\n" in content}.values()
        if self.constant:
            about = concepts()[0]
        elif chance.random() >= self.explains:
            about = chance.choice([c for c in concepts() if not set(c.names) & set(about.names)])
        return good(label="a kind of text", explanation=_sentence(about), confidence="high")


def is_planted(request: Request) -> bool:
    """Whether a request is a question of the judge's test."""
    content = request["messages"][-1]["content"]
    texts = texts_asked(request).values()
    return all(text in _PLAIN for text in texts) if texts else any(t in content for t in _MARKED)


def _sentence(concept: Concept) -> str:
    return f"It reacts to this above all else: {concept.description}"
