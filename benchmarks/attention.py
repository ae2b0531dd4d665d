"""What the attention lens costs beside the forward that it looks at.

    python benchmarks/attention.py [--layers 5 15 25] [--tokens 128] [--features 10]

For each layer, in turns: one forward that captures ``attn.hook_z`` and encodes it; the same with
direct feature attribution of ``--features`` features at every token, by head and source; one step
back for the last token; and the pairs of one score.  The bar is 1.5 times the forward for the
first.  Random SAEs: the cost does not depend on what they learned.  Times are the processor's (on a
card those of the clock).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from monosemy.attribution.backwards import Backwards, Through
from monosemy.attribution.scores import pair_scores
from monosemy.attribution.sources import feature_sources, strongest
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import ModelSpec, TopKSpec
from monosemy.workspace import Workspace

ROUNDS = 7
clock = time.perf_counter if torch.cuda.is_available() else time.process_time
TEXT = "When Mary and John went to the store, John gave a drink to Mary, and Mary said to John: "


def random_sae(host: HostModel, site: str, latents: int) -> SAE:
    width = host.site_width(site)
    sae = create(TopKSpec(d_sae=latents, k=32), width)
    sae.initialise(torch.Generator().manual_seed(0))
    return sae.to(host.device).requires_grad_(False)


def seconds(work: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Of the processor, which what else the machine does changes least; in turns."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(ROUNDS + 1):
        for name, run in work.items():
            start = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up, and proves
                taken[name].append(clock() - start)
    return taken


def measured(host: HostModel, layer: int, options: argparse.Namespace) -> dict[str, list[float]]:
    site, stream = f"blocks.{layer}.attn.hook_z", f"blocks.{layer}.hook_resid_pre"
    sae, residual = (random_sae(host, each, options.latents) for each in (site, stream))
    ids = host.tokenizer(TEXT * 20, add_special_tokens=False)["input_ids"][: options.tokens]
    row = torch.tensor([ids])
    through = [Through(1, residual, stream)]
    last = len(ids) - 1

    def forward() -> object:
        return sae.encode(host.capture(row, torch.ones_like(row), [site])[site][0].float())

    def attributed() -> object:
        block = Backwards(host, ids, layer).block()
        codes = sae.encode(block.z_SZ)
        wanted = {t: strongest(codes, t, options.features) for t in range(len(ids))}
        return feature_sources(block, sae, codes, wanted)

    def stepped() -> object:
        backwards = Backwards(host, ids, layer, through, depth=1)
        codes = sae.encode(backwards.block().z_SZ)
        wanted = {last: strongest(codes, last, options.features)}
        found = feature_sources(backwards.block(), sae, codes, wanted)
        return [backwards.trace(each, 1, 8) for each in found]

    def pair() -> object:
        return pair_scores(Backwards(host, ids, layer, through, depth=1), 0, last, 0)

    with torch.no_grad():
        return seconds(
            {"forward": forward, "sources": attributed, "one step back": stepped, "pair": pair}
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, nargs="+", default=[5, 15, 25])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        spec = ModelSpec(name=options.model, dtype=options.dtype)
        host = HostModel.load(spec, Workspace(Path(folder)))
    print(
        f"{host.name}, {host.dtype} on {host.device}, {torch.get_num_threads()} threads: "
        f"{options.tokens} tokens x {options.features} features of {options.latents}, "
        f"median (fastest) of {ROUNDS} rounds"
    )
    for layer in options.layers:
        taken = measured(host, layer, options)
        base = statistics.median(taken["forward"])
        for name, each in taken.items():
            median, fastest = statistics.median(each), min(each)
            print(
                f"blocks.{layer:<3} {name:<14} {1000 * median:8.1f} ms ({1000 * fastest:.1f})  "
                f"{median / base:5.2f} x the forward"
            )


if __name__ == "__main__":
    main()
