"""An SAE whose tokens, names and texts try to act on the page that shows them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from monosemy.data.token_bytes import TokenBytes
from monosemy.index.evidence import FeatureEvidence, Neighbour, TokenEffect, TokenShare, WordCount
from monosemy.index.example_bytes import examples_to_bytes
from monosemy.index.examples import TOP, Example
from service.database.tables import Context, Document, Explanation, Feature, Model, Sae, Score
from tests.support.gathered_rows import add_list, add_tag
from tests.support.library_rows import Library

SCRIPT = "</script><script>alert(1)</script>"
TOKENS = [
    "<s>",
    SCRIPT,
    '<img src=x onerror="alert(1)">',
    "\u202eright to left",
    "nul\x00byte",
    "\x1b[31mred",
    "x" * 1500,
    "👩\u200d👩\u200d👧\u200d👦",
    "Z" + "\u0310\u0327\u0489" * 40,
    " مرحبا",
    " שלום",
    "\n",
    "\t",
    "\u00a0\u00ad\u200b\ufeff",
    "\u2066iso\u2069",
    "{{ 7 * 7 }}",
    "-->",
    "\x85\x9b",
    "' onmouseover='alert(1)",
    "&lt;b&gt;",
]
BYTES = [each.encode() for each in TOKENS] + [b"\xe2", b"\xff\xfe"]
"""The last two are no text by themselves."""
NAME = "<img src=x onerror=alert(1)>"
ODD_HEADS, ODD_STREAM = f"heads of {NAME}", f"stream of {NAME}"
"""SAEs for the attention lens, of the same host model."""
WORDS = f"{SCRIPT} \u202e <b>bold</b> {{{{ 7 * 7 }}}} ' onmouseover='alert(1) \u2028"


@dataclass(frozen=True)
class Hostile:
    library: Library
    explanation: uuid.UUID
    score: uuid.UUID


def add_hostile(session: Session, name: str = NAME) -> Hostile:
    """Two features; the first fires on every token of its row, the second is dead."""
    count = len(BYTES)
    text_id = f"text-{uuid.uuid4().hex}"
    model = Model(
        name=f"model of {name} {WORDS}",
        spec={"name": "tiny", "revision": None, "dtype": "float32", "device": "cpu"},
        info={"architecture": WORDS, "n_layers": 2, "d_model": 8, "d_vocab": count, "sites": []},
        token_bytes=TokenBytes(BYTES).pack(),
    )
    session.add(model)
    session.flush()
    sae = Sae(
        name=name,
        model_id=model.id,
        site="blocks.0.hook_resid_post",
        architecture="topk",
        d_in=8,
        d_sae=2,
        path="saes/hostile",
        config={"text": {"source": WORDS}},
        metrics={},
        provenance={"text": {"text_id": text_id, WORDS: WORDS}},
        index={"path": "indexes/none", "text_id": text_id, "tokens": count},
    )
    session.add(sae)
    session.add(Document(text_id=text_id, document=0, name=WORDS))
    ids = np.arange(count, dtype="<u4").tobytes()
    session.add(Context(text_id=text_id, row=0, document=0, start=0, token_ids=ids))
    session.flush()
    texts = [TokenShare(i, text.replace("\x00", "\u2400"), 0.1, 2, 0.5) for i, text in _storable()]
    evidence = FeatureEvidence(
        feature=0,
        count=count,
        density=0.5,
        max_activation=9.0,
        mean_activation=2.0,
        histogram=[1] * 40,
        distinct_tokens=count,
        top_tokens=texts,
        strongest_firings=16,
        strongest_words=[WordCount(WORDS, 16)],
        promoted=[TokenEffect(each.id, each.text, 0.5) for each in texts],
        suppressed=[TokenEffect(each.id, each.text, -0.5) for each in texts],
        cosine_neighbours=[Neighbour(1, 0.5)],
    )
    examples = [
        Example(0, 0, focus, group, 0, count, tuple(range(count)), (4.0,) * count)
        for focus, group in ((1, TOP), (9, TOP), (5, 0))
    ]
    for index, packed in ((0, examples_to_bytes(examples)), (1, examples_to_bytes([]))):
        session.add(
            Feature(
                sae_id=sae.id,
                index=index,
                density=0.5 if packed and index == 0 else 0.0,
                max_activation=9.0,
                postings=count if index == 0 else 0,
                label=WORDS,
                evidence={**evidence.as_dict(), "feature": index},
                examples=packed,
            )
        )
    session.flush()
    said = Explanation(
        sae_id=sae.id,
        feature=0,
        explainer="default",
        key="hostile",
        text=WORDS,
        label=WORDS,
        judge=WORDS,
        provenance={
            "judge": {"model": WORDS, WORDS: WORDS},
            "prompt": {"name": WORDS, "version": 1, "hash": WORDS},
            "examples": [{"id": WORDS, "group": WORDS, "row": 0, "position": 1}],
        },
    )
    session.add(said)
    session.flush()
    judgement = {"row": 0, "position": 3, "tier": WORDS, "group": WORDS, "truth": True}
    score = Score(
        sae_id=sae.id,
        explanation_id=said.id,
        scorer=WORDS,
        key="hostile",
        metric=WORDS,
        value=0.5,
        low=0.4,
        high=0.6,
        n=1,
        n_failed=0,
        baseline=0.5,
        details={
            "judgements": [{**judgement, "answer": True}],
            "tiers": {WORDS: {"value": 0.5}, "other": {"value": WORDS}},
            "by_group": {WORDS: {"value": 1.0}, "1": WORDS},
        },
        judge=WORDS,
    )
    session.add(score)
    session.flush()
    library = Library(model.id, sae.id, name, 2)
    add_list(session, library, f"list of {name}", [0], note=WORDS)
    add_tag(session, library, "<img-onerror>", 0)
    return Hostile(library, said.id, score.id)


def _storable() -> list[tuple[int, str]]:
    return list(enumerate(TOKENS))
