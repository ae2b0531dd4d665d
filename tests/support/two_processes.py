"""What each of two gloo processes does in ``test_distributed_steps``: all cases, one after another.

    python two_processes.py RANK FOLDER

Also imported by the test, for what one process gives on the same batches.
``MONOSEMY_TEST_DEVICE=cuda`` runs them over NCCL, each on a card of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from monosemy.specs import ARCHITECTURES, SAESpec, TrainingSpec
from monosemy.training.run_group import ALONE, BatchGroup, DictionaryGroup, RunGroup
from monosemy.training.trainer import SAETrainer

D, D_OUT, F, N, STEPS = 12, 9, 40, 240, 30

DEVICE = os.environ.get("MONOSEMY_TEST_DEVICE", "cpu")


def spec_of(name: str, **more: Any) -> SAESpec:
    options: dict[str, Any] = {"d_sae": F, "dead_after_tokens": 900, **more}
    fields = ARCHITECTURES[name].model_fields
    for field, value in {
        "k": 4,
        "target_l0": 4.0,
        "prefixes": [8, 20],
        "places": 2,
        "target_site": "blocks.1.hook_mlp_out",
    }.items():
        if field in fields:
            options.setdefault(field, value)
    return ARCHITECTURES[name](**options)


SHARED_BATCH: dict[str, SAESpec] = {
    **{name: spec_of(name) for name in sorted(ARCHITECTURES)},
    "batchtopk, refined": spec_of("batchtopk", ista_steps=1),
    "matryoshka, sorted": spec_of("matryoshka", sort_by_frequency=True),
    "jumprelu, tanh": spec_of("jumprelu", sparsity="tanh"),
    "clt, shared": spec_of("clt", incremental=True),
}
SHARED_DICTIONARY: dict[str, SAESpec] = {
    "topk, few dead": spec_of("topk"),
    "topk, most dead": spec_of("topk", dead_after_tokens=1, aux_k=3),
    "topk, annealed": spec_of("topk", k_start=12),
}


def batches(d_out: int | None) -> list[tuple[Tensor, Tensor | None]]:
    """Sparse sums of fixed directions about an offset; the second half of a batch is stronger, so
    that no statistic of a half is that of the whole."""
    generator = torch.Generator().manual_seed(1)
    atoms = torch.nn.functional.normalize(torch.randn(24, D, generator=generator), dim=1)
    onto = torch.randn(D, D_OUT, generator=generator)
    offset = torch.randn(D, generator=generator)
    drawn = []
    for _ in range(STEPS):
        firing = torch.rand(N, 24, generator=generator) < 0.12
        x = (firing * (1 + torch.rand(N, 24, generator=generator))) @ atoms * D**0.5 / 2
        x = (x + offset) * torch.cat([torch.full((N // 2, 1), s) for s in (0.7, 1.3)])
        drawn.append((x, x @ onto if d_out else None))
    return drawn


def trained(spec: SAESpec, group: RunGroup, part: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Weights, density and readings after all batches, of which this process gets ``part``."""
    d_out = D_OUT if spec.architecture == "transcoder" else None
    sae = group.create(spec, D, d_out, torch.Generator().manual_seed(0))
    sae = sae.to(DEVICE)
    given = [(x.to(DEVICE), y if y is None else y.to(DEVICE)) for x, y in batches(d_out)]
    sae.begin(given[0][0])
    trainer = SAETrainer(sae, TrainingSpec(gradient_clip=0.3))
    for number, (x, target) in enumerate(given):
        trainer.step(part(x), number, 3e-3, STEPS, None if target is None else part(target))
    readings = trainer.readings()
    with torch.no_grad():
        sae.calibrate(part(given[0][0]))
    tensors = {f"readings.{name}": torch.tensor(value) for name, value in readings.items()}
    tensors["density"] = group.whole_density(trainer.density)
    state = group.whole_sae(sae, spec).state_dict()
    tensors |= {name: value.detach().contiguous() for name, value in state.items()}
    return {name: value.cpu() for name, value in tensors.items()}


def alone(spec: SAESpec) -> dict[str, Tensor]:
    return trained(spec, ALONE, lambda x: x)


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "rendezvous"), 2)
    if DEVICE == "cuda":
        torch.cuda.set_device(rank)
    backend = "cpu:gloo,cuda:nccl" if DEVICE == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=2)
    half = slice(rank * N // 2, (rank + 1) * N // 2)
    cases = {
        name: trained(spec, BatchGroup(), lambda x: x[half]) for name, spec in SHARED_BATCH.items()
    } | {
        f"split {name}": trained(spec, DictionaryGroup(), lambda x: x)
        for name, spec in SHARED_DICTIONARY.items()
    }
    tensors = {
        f"{case}/{name}": t for case, results in cases.items() for name, t in results.items()
    }
    save_file({name: t.clone() for name, t in tensors.items()}, str(folder / f"{rank}.safetensors"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
