"""How long one more SAE takes at the 113 tasks of sae-probes, once their activations are there.

    python benchmarks/sparse_probing.py [--latents 4096] [--width 576] [--ks 1 2 4 8 16 32]

Activations are random, since what is timed does not depend on them: probes are fitted to each
task's own labels and as many texts as it has.  Prints seconds of the clock of what an SAE adds (its
own codes, a random dictionary as sparse, and shuffled labels), and of what all SAEs share.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from monosemy.benchmarking.probing.probe import chosen_columns, one_thread, told
from monosemy.benchmarking.probing.split import draw, usable_rows
from monosemy.benchmarking.probing.tasks import NOT_WHAT_THEY_SAY, read_tasks
from monosemy.benchmarking.probing.words import told_by_characters
from monosemy.saes import registry
from monosemy.saes.bases import random_directions
from monosemy.specs import TopKSpec
from monosemy.specs.benchmarks import PUBLISHED_TASKS
from monosemy.threads import usable_cores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--active", type=int, default=32)
    parser.add_argument("--ks", type=int, nargs="+", default=[2**each for each in range(10)])
    options = parser.parse_args()
    seconds = dict.fromkeys(
        ("encode", "choose", "fit, SAE", "fit, shuffled", "dense", "tfidf"), 0.0
    )
    generator = torch.Generator().manual_seed(0)
    sae = registry.create(TopKSpec(d_sae=options.latents, k=options.active), options.width)
    sae.initialise(generator)
    rng, done, probes = np.random.default_rng(0), 0, 0

    def timed(name: str, began: float) -> float:
        now = time.perf_counter()
        seconds[name] += now - began
        return now

    for task in read_tasks(PUBLISHED_TASKS, None):
        split = draw(task, usable_rows(task, "clean"), 1024, 1000, 0)
        if split is None or task.name in NOT_WHAT_THEY_SAY:
            continue
        done += 1
        x_ND = torch.randn(len(split.train) + len(split.test), options.width, generator=generator)
        if done == 1:
            random = random_directions(x_ND, options.latents, 0, "top_k", options.active)
        on_N, on_M = task.labels[split.train], task.labels[split.test]
        shuffled_N = rng.permutation(on_N)
        for dictionary in (sae, random):
            began = time.perf_counter()
            with torch.no_grad():
                z_NF = dictionary.encode(x_ND).dense(options.latents).numpy()
            began = timed("encode", began)
            fit_NF, test_MF = z_NF[: len(on_N)], z_NF[len(on_N) :]
            for labels, name in ((on_N, "fit, SAE"), (shuffled_N, "fit, shuffled")):
                if dictionary is random and labels is shuffled_N:
                    continue
                order = chosen_columns(fit_NF, labels, max(options.ks))
                began = timed("choose", began)
                for k in options.ks:
                    told(fit_NF[:, order[:k]], labels, test_MF[:, order[:k]], on_M)
                    probes += 1
                began = timed(name, began)
        began = time.perf_counter()
        told(x_ND[: len(on_N)].numpy(), on_N, x_ND[len(on_N) :].numpy(), on_M)
        began = timed("dense", began)
        told_by_characters(task, split)
        timed("tfidf", began)
    own = sum(seconds[name] for name in seconds if name not in ("dense", "tfidf"))
    print(f"{done} tasks, {options.latents} latents, k {options.ks}, {usable_cores()} cores")
    for name, value in seconds.items():
        print(f"{name:<16}{value:8.1f} s")
    print(f"one more SAE    {own:8.1f} s, {probes} probes beside each other")


if __name__ == "__main__":
    with one_thread():
        main()
