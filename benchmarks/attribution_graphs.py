"""Attribution graphs beside circuit-tracer's, on one random model with the same transcoders.

    pip install --no-deps --target PEER circuit-tracer==0.5.0
    PYTHONPATH=PEER python benchmarks/attribution_graphs.py [--tokens 16 64] [--rounds 3]

Both trace in turns in one process, every active feature that reaches a goal (ours) or every active
feature (theirs): ours by one pass down the blocks for a
batch of targets, theirs by a backward of the repeated prompt.  Told are seconds (least and median
of the rounds), their ratio, the most memory that a run added, and how far the edges that both have
are apart, as a share of the largest edge into the same target.  circuit-tracer knows no biases and
drops the first token's MLP outputs: those edges are ours alone, and how much of the mass they are
is told.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants as hub_constants
from transformers import LlamaConfig, LlamaForCausalLM

from monosemy.formats.circuit_tracer import Places, save_set
from monosemy.graphs.goals import token_logits
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.prompt import read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import JumpReLUSpec
from tests.support.tiny_host import make_tiny_tokenizer

READS, WRITES = "mlp.hook_in", "hook_mlp_out"
GOALS = (5, 17, 300)
"""Tokens whose logits are explained."""


class Peer:
    """circuit-tracer's model of the same weights."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: Any, folder: Path) -> None:
        # It asks an older hub client for what is gone; nothing is fetched here.
        hub_constants.HF_HUB_ENABLE_HF_TRANSFER = False
        from circuit_tracer.replacement_model.replacement_model_transformerlens import (
            TransformerLensReplacementModel,
        )
        from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
        from transformer_lens import HookedTransformer, HookedTransformerConfig
        from transformer_lens.pretrained.weight_conversions import convert_llama_weights

        shape = model.config
        config = HookedTransformerConfig(
            n_layers=shape.num_hidden_layers,
            d_model=shape.hidden_size,
            n_ctx=shape.max_position_embeddings,
            d_head=shape.hidden_size // shape.num_attention_heads,
            n_heads=shape.num_attention_heads,
            n_key_value_heads=shape.num_key_value_heads,
            d_mlp=shape.intermediate_size,
            d_vocab=shape.vocab_size,
            act_fn="silu",
            gated_mlp=True,
            normalization_type="RMS",
            eps=shape.rms_norm_eps,
            positional_embedding_type="rotary",
            rotary_dim=shape.hidden_size // shape.num_attention_heads,
            rotary_adjacent_pairs=False,
            final_rms=True,
            use_attn_result=False,
            original_architecture="LlamaForCausalLM",
            device="cpu",
        )
        paths = {
            layer: str(folder / f"layer_{layer}.safetensors") for layer in range(config.n_layers)
        }
        coders = load_transcoder_set(
            paths,
            "x",
            READS,
            WRITES,
            device=torch.device("cpu"),
            dtype=torch.float32,
            lazy_encoder=False,
            lazy_decoder=False,
        )
        plain = HookedTransformer(config)
        plain.load_state_dict(convert_llama_weights(model, config), strict=False)
        self.model = TransformerLensReplacementModel(config)
        self.model.tokenizer = tokenizer
        self.model.load_state_dict(plain.state_dict(), strict=False)
        self.model._configure_replacement_model(coders)

    def graph(self, ids: list[int], batch: int) -> Any:
        from circuit_tracer.attribution.attribute import attribute

        return attribute(
            torch.tensor(ids),
            self.model,
            attribution_targets=torch.tensor(GOALS),
            batch_size=batch,
        )


Key = tuple[str, int, int, int]
"""Kind, layer, position, number of a node."""


def their_edges(graph: Any, length: int) -> tuple[list[Key], torch.Tensor]:
    """(nodes, edges ``[targets, sources]``) of circuit-tracer's graph."""
    features = graph.active_features[graph.selected_features].tolist()
    layers = graph.cfg.n_layers
    keys: list[Key] = [("feature", layer, place, number) for layer, place, number in features]
    keys += [("error", layer, place, -1) for layer in range(layers) for place in range(length)]
    keys += [("token", -1, place, -1) for place in range(length)]
    keys += [("logit", -1, length - 1, number) for number in GOALS]
    return keys, graph.adjacency_matrix


def our_edges(graph: Graph, keys: list[Key]) -> tuple[torch.Tensor, float]:
    """(edges in the order of ``keys``, share of the mass of all that no key has)."""
    nodes, place_of = graph.nodes, {key: place for place, key in enumerate(keys)}
    own = np.full(len(nodes), -1)
    for node in range(len(nodes)):
        kind = NodeKind(nodes.kind[node])
        layer, place, number = (int(x[node]) for x in (nodes.layer, nodes.position, nodes.number))
        if kind in (NodeKind.error, NodeKind.token):
            number = -1
        if kind in (NodeKind.token, NodeKind.logit):
            layer = -1
        own[node] = place_of.get((kind.name, layer, place, number), -1)
    target, source = own[graph.rows.target[graph.rows.row_of_edge]], own[graph.rows.source]
    weight = graph.rows.weight
    edges = torch.zeros(len(keys), len(keys), dtype=torch.float64)
    shared = (target >= 0) & (source >= 0)
    edges[target[shared], source[shared]] = torch.from_numpy(weight[shared])
    return edges, float(np.abs(weight[~shared]).sum() / np.abs(weight).sum())


def compared(ours: Graph, theirs: Any, length: int) -> dict[str, float]:
    keys, their_matrix = their_edges(theirs, length)
    matrix, alone = our_edges(ours, keys)
    # What the first token's MLPs gave is not in their graph.
    has = torch.tensor([not (key[0] == "error" and key[2] == 0) for key in keys])
    first = matrix[:, ~has].abs().sum() / matrix.abs().sum()
    apart = (matrix - their_matrix)[:, has].abs()
    largest = matrix[:, has].abs().amax(1, keepdim=True).clamp_min(1e-30)
    # Features that reach no goal are not traced here.
    rows = (matrix != 0).any(1)
    return {
        "apart": float((apart / largest)[rows].max()),
        "ours_alone": alone + (1 - alone) * float(first),
        "rows": int(rows.sum()),
        "their_rows": sum(key[0] in ("feature", "logit") for key in keys),
    }


def host_of(width: int, layers: int, heads: int) -> HostModel:
    """A random model of Llama's shape, with a tokenizer of 400 tokens."""
    tokenizer = make_tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=round(width * 8 / 3),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    return HostModel.wrap(LlamaForCausalLM(config).eval(), tokenizer, "random-llama")


def coder_of(width: int, latents: int, active: int, seed: int) -> SAE:
    """Random directions; thresholds that about ``active`` latents pass, where what is read has a
    norm of sqrt(width)."""
    level = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - active / latents)))
    sae = create(JumpReLUSpec(d_sae=latents, initial_threshold=level), width, width)
    sae.initialise(torch.Generator().manual_seed(seed))
    return sae.requires_grad_(False)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """(seconds, MB that the process's peak rose by, what came of it)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--active", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    host = host_of(options.width, options.layers, options.heads)
    saes = [
        coder_of(options.width, options.latents, options.active, layer)
        for layer in range(options.layers)
    ]
    reads, writes = (
        [f"blocks.{layer}.{site}" for layer in range(options.layers)] for site in (READS, WRITES)
    )
    coders = [HostedSAE.at(host, *each) for each in zip(saes, reads, writes, strict=True)]
    with tempfile.TemporaryDirectory() as root:
        save_set(saes, Path(root) / "set", Places(reads, writes, "random"))
        peer = Peer(host.model, host.tokenizer, Path(root) / "set")
    tracing = TraceOptions(
        batch=options.batch, most_features=None, untraced=0.0, row_mass=1.0, row_edges=None
    )
    print(
        f"{options.layers} layers of width {options.width}, {options.latents} latents each, "
        f"batch {options.batch}, {options.threads} thread(s), {options.rounds} rounds in turns\n"
    )
    print(HEADINGS)
    print("|" + "---|" * (HEADINGS.count("|") - 1))
    generator = torch.Generator().manual_seed(1)
    for length in options.tokens:
        ids = [0, *torch.randint(3, 400, (length - 1,), generator=generator).tolist()]

        def ours(ids: list[int] = ids) -> Graph:
            prompt = read_prompt(ReplacementModel(host, coders, 1), ids)
            return trace(prompt, token_logits(prompt, list(GOALS)), tracing)

        def theirs(ids: list[int] = ids) -> Any:
            return peer.graph(ids, options.batch)

        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        rose: dict[str, float] = {}
        made: dict[str, Any] = {}
        for _ in range(options.rounds):
            for name, work in (("ours", ours), ("theirs", theirs)):
                took, more, made[name] = timed(work)
                seconds[name].append(took)
                rose.setdefault(name, more)
        figures = compared(made["ours"], made["theirs"], length)
        middle = {name: statistics.median(each) for name, each in seconds.items()}
        cells = [
            str(length),
            f"{figures['rows']} / {figures['their_rows']}",
            *(f"{min(seconds[name]):.2f} / {middle[name]:.2f}" for name in ("ours", "theirs")),
            f"{middle['theirs'] / middle['ours']:.1f}",
            *(f"{rose[name]:.0f}" for name in ("ours", "theirs")),
            f"{figures['apart']:.1e}",
            f"{figures['ours_alone']:.1%}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


HEADINGS = (
    "| tokens | rows, ours / theirs | ours, s (least / median) | circuit-tracer, s | times as fast "
    "| ours, MB more | theirs, MB more | edges apart, of the largest | mass that only ours has |"
)

if __name__ == "__main__":
    main()
