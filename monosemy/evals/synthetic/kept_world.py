"""A world of SynthSAEBench's kind on disk: drawn once, read by every SAE that is trained on it.

The world is version 2 of SynthSAEBench (arXiv 2602.14687), made from SAELens' configuration at any
width: Zipfian rates, a Gaussian copula of rank 25, trees of 85 features whose siblings exclude each
other and whose children are scaled by their parents (in version 1 they are not), nearly orthogonal
directions.  At 16,384 features in 768 dimensions it is the published one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sae_lens.synthetic import (
    FoldedNormalMagnitudeConfig,
    HierarchyConfig,
    LinearMagnitudeConfig,
    LowRankCorrelationConfig,
    OrthogonalizationConfig,
    SyntheticModel,
    SyntheticModelConfig,
    ZipfianFiringProbabilityConfig,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from monosemy.errors import DataError
from monosemy.evals.synthetic.referee import RefereeData, Sample

PUBLISHED_FEATURES = 16_384
_DRAWN_AT_ONCE = 512
_TREE = 128
"""Features for each tree of 85."""


def configured(features: int, width: int, seed: int) -> SyntheticModelConfig:
    """The published world's configuration with other sizes; the rarest feature's rate is raised as
    features are fewer, so that it is seen as often for each feature."""
    return SyntheticModelConfig(
        num_features=features,
        hidden_dim=width,
        seed=seed,
        firing_probability=ZipfianFiringProbabilityConfig(
            exponent=0.5, max_prob=0.4, min_prob=5e-4 * PUBLISHED_FEATURES / features
        ),
        hierarchy=HierarchyConfig(
            total_root_nodes=max(1, features // _TREE),
            branching_factor=4,
            max_depth=3,
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        orthogonalization=OrthogonalizationConfig(num_steps=100, lr=3e-4),
        correlation=LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
        mean_firing_magnitudes=LinearMagnitudeConfig(start=5.0, end=4.0),
        std_firing_magnitudes=FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        bias=0.5,
    )


@dataclass(frozen=True)
class KeptWorld:
    """A world's samples; training samples stay on disk."""

    features_FD: Tensor
    parent_of: dict[int, int]
    train_ND: np.ndarray
    """float16 ``[n, d]``: their mean norm is ``sqrt(d)``, so that the rounding is .02 % of it."""
    judge_ND: Tensor
    _truth: Tensor
    """Sparse ``[n, features]``."""

    def batch(self, start: int, size: int) -> Tensor:
        """Training samples ``start`` to ``start + size`` as float32 ``[n, d]``."""
        return torch.from_numpy(self.train_ND[start : start + size].astype(np.float32))

    def judged(self, size: int = 1024) -> Iterator[Sample]:
        """Fresh samples with their coefficients; never trained on."""
        for start in range(0, len(self.judge_ND), size):
            rows = torch.arange(start, min(start + size, len(self.judge_ND)))
            yield Sample(
                self.judge_ND[rows], self._truth.index_select(0, rows).coalesce().to_dense()
            )


def kept_world(
    folder: Path,
    config: SyntheticModelConfig,
    samples: int,
    judged: int = 16_384,
    report: Callable[[int], object] = int,
) -> KeptWorld:
    """The world of ``config`` under ``folder``, drawn if it is not there.

    Its samples come from ``config.seed`` too; ``report`` is called with how many are drawn.
    ``DataError`` where another world is kept there, or fewer samples.
    """
    about = json.loads(json.dumps({"config": config.to_dict(), "judged": judged}))
    told = folder / "world.json"
    if not told.exists():
        _draw(folder, config, samples, judged, report)
        told.write_text(json.dumps({**about, "samples": samples}))
    there = json.loads(told.read_text())
    if there["samples"] < samples or {**there, "samples": None} != {**about, "samples": None}:
        raise DataError(f"{folder} holds another world, or fewer samples.", "Name another folder.")
    kept = load_file(folder / "world.safetensors")
    parents = {int(child): parent for child, parent in kept["parents"].tolist()}
    size = (len(kept["judge"]), len(kept["features"]))
    truth = torch.sparse_coo_tensor(
        kept["indices"], kept["values"], size, check_invariants=True
    ).coalesce()
    train = np.load(folder / "train.npy", mmap_mode="r")
    return KeptWorld(kept["features"], parents, train, kept["judge"], truth)


def _draw(
    folder: Path,
    config: SyntheticModelConfig,
    samples: int,
    judged: int,
    report: Callable[[int], object],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # SAELens shows the orthogonalisation by a bar of its own.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        data = RefereeData(SyntheticModel(config), config.seed or 0)
    train = np.lib.format.open_memmap(
        folder / "train.npy", "w+", np.float16, (samples, config.hidden_dim)
    )
    for start in range(0, samples, _DRAWN_AT_ONCE):
        x_ND = data.sample(min(_DRAWN_AT_ONCE, samples - start)).x_ND
        train[start : start + len(x_ND)] = x_ND.numpy()
        report(start + len(x_ND))
    train.flush()
    drawn = [data.sample(min(1024, judged - start)) for start in range(0, judged, 1024)]
    truth = torch.cat([each.truth_NF.to_sparse() for each in drawn]).coalesce()
    parents = sorted(data.parent_of().items())
    save_file(
        {
            "features": data.features_FD.contiguous(),
            "parents": torch.tensor(parents, dtype=torch.int64).reshape(-1, 2),
            "judge": torch.cat([each.x_ND for each in drawn]),
            "indices": truth.indices().contiguous(),
            "values": truth.values(),
        },
        folder / "world.safetensors",
    )
