"""Which runs the reference consists of: every architecture, every kind, every explainer and scorer.

Architectures, explainers and scorers are read from the library, so that a new one is covered as
soon as it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

from monosemy.specs import KINDS, ExplanationSpec, ScoringSpec
from monosemy.specs.architectures import ARCHITECTURES
from tests.support.concept_texts import RETAIN, TARGETS
from tests.support.task_prompts import task_prompts

SITE, OTHER_SITE = "blocks.2.hook_resid_post", "blocks.1.hook_resid_post"
HEADS_SITE = "blocks.2.attn.hook_z"
_FEW = {"indices": None, "count": 4, "min_postings": 5, "max_density": 1.0}
# One call at a time: else it is chance which of two features pays for a call they share.
_JUDGE = {"concurrency": 1}
_SCORED = {"positives": 4, "negatives": 4, "texts_per_call": 4, "judge": _JUDGE}
_SHORT = {"tokens": 2_560, "batch_tokens": 128, "buffer_tokens": 1024}
_BRIEF = {"max_tokens": 2000}
_SMALL_SAE = {"d_sae": 48, "k": 4, "dead_after_tokens": 1000}

_OPTIONS: dict[str, dict[str, Any]] = {
    "relu": {"target_l0": 6.0},
    "gated": {"target_l0": 6.0},
    "jumprelu": {"target_l0": 6.0},
    "clt_jumprelu": {"target_l0": 6.0},
    "crosscoder_l1": {"target_l0": 6.0},
    "transcoder": {"k": 4, "target_site": "blocks.2.hook_mlp_out"},
}
"""What an architecture needs besides its size; those with a k take ``{"k": 4}``."""

_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "topk-refined": ("topk", {"k": 4, "ista_steps": 1, "k_start": 8}),
    "clt-shared": ("clt", {"k": 4, "incremental": True}),
    "transcoder-skip": ("transcoder", {**_OPTIONS["transcoder"], "skip": True}),
}

SMALL = ("topk", "jumprelu")
"""The architectures of the small selection."""


class Step(NamedTuple):
    """One submission: a name that is the same in every commit, and its spec."""

    name: str
    spec: dict[str, Any]


def plan(model: str, text: str, sparsify: str, small: bool) -> Iterator[Step]:
    """All submissions in order.  ``sparsify`` is a folder into which the harness exports the first
    SAE before the import run is submitted."""
    shared = {
        "model": {"name": model, "dtype": "float32", "device": "cpu"},
        "text": {"source": text, "context_size": 32, "heldout_fraction": 0.2},
    }
    for name, sae in _saes(small):
        yield Step(f"pipeline {name}", _pipeline(name, sae, shared))
    if small:
        yield from _of_the_rest(shared, sparsify, ["topk", "jumprelu"], ("detection",), ())
        return
    explainers = _choices(ExplanationSpec, "explainer")
    scorers = _choices(ScoringSpec, "scorer")
    yield from _of_the_rest(shared, sparsify, ["topk", "batchtopk"], scorers, explainers)
    for split in ("batch", "dictionary"):
        training = {**_SHORT, "devices": 2, "split": split}
        spec = {"kind": "train", "name": f"two-{split}", "site": SITE, **shared}
        yield Step(f"train by two, {split}", {**spec, "sae": _SMALL_SAE, "training": training})


def _choices(part: Any, field: str) -> tuple[str, ...]:
    """The names that ``field`` may hold; commits before there were registries had a literal."""
    registry = getattr(part, "registry", None)
    names = get_args(part.model_fields[field].annotation) if registry is None else tuple(registry)
    return tuple(name for name in names if name != "probe")  # a scorer that is gone since


def _saes(small: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    size = {"d_sae": 64, "dead_after_tokens": 3000}
    for name in ARCHITECTURES:
        if not small or name in SMALL:
            yield name, {"architecture": name, **size, **_OPTIONS.get(name, {"k": 4})}
    for name, (architecture, options) in _VARIANTS.items():
        if not small and architecture in ARCHITECTURES:
            yield name, {"architecture": architecture, **size, **options}


def _pipeline(name: str, sae: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "pipeline",
        "name": name,
        **shared,
        **_places(sae),
        "sae": sae,
        "training": {**_SHORT, "tokens": 5_120, "warmup_steps": 5, "learning_rate": 0.003},
        "evaluation": {"tokens": 512, "reconstruction_tokens": 1024},
        "indexing": {"top_examples": 4, "quantile_examples": 2, "window": 8},
        "explanation": {"features": _FEW, "examples": 4, "judge": _JUDGE},
        "scoring": _SCORED,
    }


def _places(sae: dict[str, Any]) -> dict[str, Any]:
    """Where it is hooked: a transcoder reads before the place that it writes to."""
    name = sae["architecture"]
    if name.startswith("clt"):
        reads = ["blocks.1.hook_resid_mid", "blocks.2.hook_resid_mid"]
        return {
            "reads": reads,
            "writes": [place.replace("resid_mid", "mlp_out") for place in reads],
        }
    if name.startswith("crosscoder"):
        return {"reads": [OTHER_SITE, SITE]}
    return {"site": OTHER_SITE if "target_site" in sae else SITE}


def _of_the_rest(
    shared: dict[str, Any],
    sparsify: str,
    pair: list[str],
    scorers: tuple[str, ...],
    explainers: tuple[str, ...],
) -> Iterator[Step]:
    """The other kinds, over SAEs that pipelines have made."""
    first, second = pair
    sweep = {
        "kind": "sweep",
        "name": "many",
        **shared,
        "sites": [SITE, OTHER_SITE],
        "saes": [_SMALL_SAE],
        "seeds": [0, 1],
        "training": _SHORT,
    }
    taken = {"kind": "import", "name": "taken-in", **shared, "source": sparsify, "site": SITE}
    yield Step("sweep", sweep)
    if "evaluate_set" in KINDS:  # a commit of before knows no such kind
        few = {"tokens": 256, "reconstruction_tokens": 512}
        of_layers = {"kind": "evaluate_set", "saes": ["many-2", "many-0"], "evaluation": few}
        yield Step("evaluate set", of_layers)
    yield Step("import", taken)
    yield Step("evaluate", {"kind": "evaluate", "sae": "taken-in", "evaluation": {"tokens": 512}})
    yield Step("index", {"kind": "index", "sae": "taken-in", "indexing": _BRIEF})
    for explainer in explainers:
        wanted = {"explainer": explainer, "features": _FEW, "examples": 3, "judge": _JUDGE}
        spec = {"kind": "explain", "sae": first, "explanation": wanted}
        yield Step(f"explain {explainer}", spec)
    if explainers:
        words = {"explainer": "output_centric", "token_change": True}
        words |= {"features": _FEW, "judge": _JUDGE}
        yield Step("explain token change", {"kind": "explain", "sae": first, "explanation": words})
        yield Step(
            "effective L0",
            {"kind": "evaluate", "sae": second, "evaluation": {"tokens": 256, "ppl_percent": 20.0}},
        )
    for scorer in scorers:
        scoring = {**_SCORED, "scorer": scorer, "tiers": ["random", "same_token"]}
        if scorer == "intervention":
            scoring |= {"intervention": {"new_tokens": 4, "prompts": 2}}
        yield Step(f"score {scorer}", {"kind": "score", "sae": first, "scoring": scoring})
    dry = {"kind": "score", "sae": first, "dry_run": True, "scoring": {**_SCORED, "seed": 5}}
    yield Step("score, dry run", dry)
    for by in ("decoder", "tokens", "explanations"):
        for method in ("mutual", "hungarian"):
            spec = {"kind": "compare", "sae": first, "other": second, "by": by, "method": method}
            yield Step(f"compare by {by}, {method}", spec)
    yield Step("layout", {"kind": "layout", "sae": first, "iterations": 50})
    beside = {"beside": first, "tokens": 1000}
    yield Step("basis", {"kind": "basis", "name": "neurons", **beside})
    if explainers:
        labelled = {
            "explanation": {"features": _FEW, "examples": 4, "judge": _JUDGE},
            "scoring": _SCORED,
        }
        random = {"name": "random", "basis": "random_directions", **beside, **labelled}
        yield Step("basis pipeline", {"kind": "basis_pipeline", **random})
    if "attention" in KINDS:
        heads = {"kind": "train", "name": "heads", **shared, "site": HEADS_SITE}
        yield Step("train heads", {**heads, "sae": _SMALL_SAE, "training": _SHORT})
        yield Step("index heads", {"kind": "index", "sae": "heads", "indexing": _BRIEF})
        few = {"rows": 20, "examples": 3, "top": 3, "draws": 19}
        yield Step("attention", {"kind": "attention", "sae": "heads", **few})
    if "circuit" in KINDS:
        yield Step("circuit", _circuit(shared["model"]))
    if "graph" in KINDS:
        places = {"reads": ["blocks.1.mlp.hook_in"], "writes": ["blocks.1.hook_mlp_out"]}
        coder = {"kind": "train", "name": "mlp", **shared, **places}
        yield Step("train transcoder", {**coder, "sae": _SMALL_SAE, "training": _SHORT})
        few = {"check": {"nodes": 2, "edges": 2, "random_circuits": 2}, "trace": {"features": 50}}
        yield Step("graph", {"kind": "graph", "prompt": "the king sat", "saes": ["mlp"], **few})
    if "feature_circuit" in KINDS:
        words = ("king", "river", "house", "road", "tower", "table")
        items = [
            {"clean": f"the {a} sat", "patch": f"the {a} ran", "answer": " a", "wrong": " w"}
            for a in words
        ]
        few = {"pairs": {"task": "given", "items": items}, "nodes": 10, "exact": 4, "midpoints": 3}
        yield Step("feature circuit", {"kind": "feature_circuit", "saes": ["mlp", first], **few})
    if "task" in KINDS:
        few = {"features": [1, 4], "pairs": 10, "test_share": 0.3, "resamples": 100}
        prompts = {"task": "given", "items": task_prompts()}
        yield Step("task", {"kind": "task", "saes": [first], "prompts": prompts, **few})
    if "benchmark" in KINDS:
        core = {"benchmark": "core", "text": shared["text"], "tokens": 512}
        yield Step("benchmark", {"kind": "benchmark", "saes": [first], "benchmarks": [core]})
    if "concept" in KINDS:
        texts = {"targets": TARGETS, "retain": RETAIN, "top_k": 6, "false_alarms": 0.2}
        yield Step("concept", {"kind": "concept", "name": "whales", "sae": first, **texts})


def _circuit(model: dict[str, Any]) -> dict[str, Any]:
    items = [
        {"text": f"the {word} {end}", "positive": end == "one", "right": [" a"], "wrong": [" t"]}
        for word in ("king", "river", "house", "road", "tower")
        for end in ("one", "two")
    ]
    return {
        "kind": "circuit",
        "model": model,
        "prompts": {"task": "given", "items": items},
        "codes": {"latents": 12, "examples": 4, "epochs": 20, "seeds": 2},
        "permutations": 20,
        "causal": {"prompts": 4, "sizes": [4], "random_sets": 1},
    }
