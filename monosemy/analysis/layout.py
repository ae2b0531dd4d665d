"""The decoder rows of an SAE laid out in two dimensions by t-SNE, and how faithful that is.

The nearest rows are found exactly; the repulsion is Barnes and Hut's, which adds up in the same
order whatever the number of threads, so that equal seeds give equal bits.  (The interpolation by
FFT, which is faster beyond some 50,000 rows, does not.)
Sources: L. van der Maaten and G. Hinton, JMLR 9 (2008) 2579; D. Kobak and P. Berens, Nature
Communications 10 (2019) 5416 for the initialisation and the learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from monosemy.analysis.faithfulness import (
    NEIGHBOURS,
    Faithfulness,
    faithfulness,
    principal_plane,
)
from monosemy.errors import DataError
from monosemy.progress import SILENT, Reporter, Stage
from monosemy.specs import LayoutRun
from monosemy.specs.rest.layouts import LayoutSummary
from monosemy.threads import usable_cores
from monosemy.versions import versions

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 10
"""Features that a layout needs."""
EARLY = 250
"""Iterations in which everything is drawn together, so that what belongs together finds itself."""
EARLY_EXAGGERATION = 12.0
_TELL = 10
"""Iterations between two looks at whether to stop."""
_SHARED_FROM = 10_000
"""Features from which an iteration is worth sharing out among threads."""
_BLOCK = 2**26
"""Cosines held at a time."""
_JITTER = 0.01
"""Of the beginning, in its own standard deviations: what the seed decides."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Where each feature of an SAE lies in the plane, and how much that says."""

    places: Floats
    """[d_sae, 2]; NaN for features that are left out."""
    summary: LayoutSummary

    @property
    def faithfulness(self) -> Faithfulness:
        """How much of the decoder's neighbourhoods is kept, beside PCA and chance."""
        return self.summary.faithfulness


def require_package() -> None:
    """``DataError`` that says what to install, where openTSNE is not here or cannot be loaded."""
    try:
        import openTSNE  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"A layout needs the package openTSNE, which cannot be loaded here: {error}.",
            "Run: pip install 'monosemy[layout]', in the environment of the GPU worker.",
        ) from None


def lay_out(
    W_dec: Tensor,
    spec: LayoutRun,
    weights: str,
    fires: npt.NDArray[np.bool_] | None = None,
    reporter: Reporter = SILENT,
) -> Layout:
    """The layout of decoder rows [d_sae, d].

    ``weights`` is the digest of the SAE; ``fires`` [d_sae] says which features do: those that do
    not are left out unless ``spec.silent``.  Stages ``neighbours`` (in features), ``layout`` (in
    iterations) and ``faithfulness``.  Raises ``DataError`` for what cannot be laid out, and where
    openTSNE is missing.
    """
    require_package()
    rows = W_dec.detach().float().cpu().numpy()
    if not np.isfinite(rows).all():
        raise DataError("The decoder has values that are no finite numbers.")
    taken = np.arange(len(rows))
    if fires is not None and not spec.silent:
        taken = np.flatnonzero(fires)
    if len(taken) < LEAST:
        raise DataError(
            f"There are {len(taken)} features to lay out; at least {LEAST} are needed.",
            None if fires is None or spec.silent else "Set silent=true to take silent ones too.",
        )
    unit = rows[taken]
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    perplexity = min(spec.perplexity, (len(unit) - 1) / 3)
    count = min(max(round(3 * perplexity), NEIGHBOURS), len(unit) - 1)
    nearest, cosines = _nearest(unit, count, reporter)
    plane = principal_plane(unit)
    used = max(round(3 * perplexity), 1)
    places = _embed(nearest[:, :used], cosines[:, :used], plane, perplexity, spec, reporter)
    with reporter.stage("faithfulness", 1, "layouts") as stage:
        kept = faithfulness(unit, nearest, places, plane)
        stage.advance()
    whole = np.full((len(rows), 2), np.nan, np.float32)
    whole[taken] = places
    summary = LayoutSummary(
        method="tsne",
        parameters={
            "perplexity": round(perplexity, 6),
            "exaggeration": spec.exaggeration,
            "iterations": spec.iterations,
            "seed": spec.seed,
            "silent": spec.silent,
        },
        features=len(taken),
        left_out=len(rows) - len(taken),
        faithfulness=kept,
        weights=weights,
        versions=versions("openTSNE", "scipy"),
    )
    return Layout(whole, summary)


def _nearest(unit: Floats, count: int, reporter: Reporter) -> tuple[Ints, Floats]:
    """(rows, cosines), both [N, count]: exactly the nearest others, the nearest first."""
    import torch

    from monosemy.index.neighbours import DecoderNeighbours

    device = "cuda" if torch.cuda.is_available() else "cpu"
    neighbours = DecoderNeighbours(torch.from_numpy(unit).to(device), count)
    n = len(unit)
    indices, cosines = np.empty((n, count), np.int64), np.empty((n, count), np.float32)
    block = max(1, min(1024, _BLOCK // n))
    with reporter.stage("neighbours", n, "features") as stage:
        for first in range(0, n, block):
            last = min(first + block, n)
            indices[first:last], cosines[first:last] = neighbours.of(first, last)
            stage.advance(last - first)
    return indices, cosines


def _embed(
    nearest: Ints,
    cosines: Floats,
    plane: Floats,
    perplexity: float,
    spec: LayoutRun,
    reporter: Reporter,
) -> Floats:
    """t-SNE of rows with these neighbours, from their principal plane on: [N, 2], centred."""
    from openTSNE import TSNEEmbedding
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    jobs = usable_cores() if len(nearest) >= _SHARED_FROM else 1
    # Between rows of length one Euclid's distance orders as the cosine does.
    distances = np.sqrt(np.maximum(2.0 - 2.0 * cosines.astype(np.float64), 0.0))
    known = PrecomputedNeighbors(nearest, distances)
    affinities = PerplexityBasedNN(knn_index=known, perplexity=perplexity, n_jobs=jobs)
    rng = np.random.default_rng(spec.seed % 2**64)
    spread = max(float(plane[:, 0].std()), 1e-12)
    start = (plane / spread + _JITTER * rng.standard_normal(plane.shape)) * 1e-4
    embedding = TSNEEmbedding(
        start.astype(np.float64), affinities, negative_gradient_method="bh", n_jobs=jobs
    )
    with reporter.stage("layout", EARLY + spec.iterations, "iterations") as stage:
        phases = ((EARLY, EARLY_EXAGGERATION, 0.5), (spec.iterations, spec.exaggeration, 0.8))
        for iterations, exaggeration, momentum in phases:
            progress = _Progress(stage)
            embedding.optimize(
                iterations,
                exaggeration=exaggeration,
                momentum=momentum,
                inplace=True,
                callbacks=progress,
                callbacks_every_iters=_TELL,
            )
            stage.advance(iterations - progress.done)
    places = np.asarray(embedding, np.float64)
    if not np.isfinite(places).all():
        raise DataError("The layout ran away.", "Ask for a lower exaggeration or perplexity.")
    return (places - places.mean(axis=0)).astype(np.float32)


class _Progress:
    """Has a stage advance by the iterations of one phase; raises where it is asked to stop."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.done = stage, 0

    def __call__(self, iteration: int, error: float, _: Any) -> bool:
        self.stage.advance(iteration - self.done, kl_divergence=round(float(error), 4))
        self.done = iteration
        return False
