"""Small explain and score runs, and the scripted judge that answers them."""

from __future__ import annotations

import json
import zlib

from tests.support.stub_server import Answer, Request, asked_about, good, texts_asked

FEATURES = {"count": 6, "min_postings": 20, "max_density": 1.0}
EXPLAIN = {"kind": "explain", "sae": "tiny", "explanation": {"features": FEATURES, "examples": 4}}
SCORING = {"positives": 4, "negatives": 4, "texts_per_call": 4}
SCORE = {"kind": "score", "sae": "tiny", "scoring": SCORING}


def judge(request: Request) -> Answer:
    """Explains every feature differently and says yes to texts by a hash of text and claim."""
    texts = texts_asked(request)
    if texts:
        claim = asked_about(request)
        return good(**{k: zlib.crc32((claim + v).encode()) % 3 > 0 for k, v in texts.items()})
    number = zlib.crc32(json.dumps(request["messages"]).encode()) % 10_000
    return good(
        label=f"topic {number}",
        explanation=f"Sentences which concern subject number {number} and its surroundings.",
        confidence="medium",
    )
