"""Attribution graphs beside circuit-tracer's, on one model with the same transcoders.

    pip install --no-deps --target PEER circuit-tracer==0.5.0
    PYTHONPATH=PEER python benchmarks/attribution_graphs.py [--tokens 16 64] [--rounds 3]
    PYTHONPATH=PEER python benchmarks/attribution_graphs.py --set FOLDER --features 256

The model is random, or SmolLM2 with the trained transcoders of a folder in circuit-tracer's layout
(``monosemy sae export``), reading the first tokens of a text.  Both trace in turns in one process,
every active feature that reaches a goal (ours) or every active feature (theirs), or as many as are
asked: ours by one pass down the blocks for a batch of targets, theirs by a backward of the repeated
prompt.  Told are seconds (least and median
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants as hub_constants
from transformers import LlamaConfig, LlamaForCausalLM

from monosemy.formats.circuit_tracer import Places, layers_in, open_folder, save_set
from monosemy.formats.opened import Wanted
from monosemy.graphs.goals import token_logits
from monosemy.graphs.graph import Graph, NodeKind
from monosemy.graphs.prompt import read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.graphs.trace import TraceOptions, trace
from monosemy.hosted_sae import HostedSAE
from monosemy.models.host import HostModel
from monosemy.saes.base import SAE
from monosemy.saes.registry import create
from monosemy.specs import JumpReLUSpec, ModelSpec, TopKSpec
from monosemy.workspace import Workspace
from tests.support.tiny_host import make_tiny_tokenizer

READS, WRITES = "mlp.hook_in", "hook_mlp_out"
RANDOM_GOALS = (5, 17, 300)
"""Tokens of the random model whose logits are explained; of a trained one the three likeliest."""


def rotary_base_of(shape: LlamaConfig) -> float:
    """The base of the angles of rotary positions."""
    angles = shape.rope_parameters
    assert isinstance(angles, dict) and isinstance(angles["rope_theta"], int | float)
    return angles["rope_theta"]


class Peer:
    """circuit-tracer's model of the same weights."""

    def __init__(
        self, model: LlamaForCausalLM, tokenizer: Any, folder: Path, topk: int | None
    ) -> None:
        # It asks an older hub client for what is gone; nothing is fetched here.
        hub_constants.HF_HUB_ENABLE_HF_TRANSFER = False
        from circuit_tracer.replacement_model.replacement_model_transformerlens import (
            TransformerLensReplacementModel,
        )
        from circuit_tracer.transcoder.activation_functions import TopK
        from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
        from transformer_lens import HookedTransformer, HookedTransformerConfig
        from transformer_lens.pretrained.weight_conversions import convert_llama_weights

        shape = model.config
        config = HookedTransformerConfig(
            n_layers=shape.num_hidden_layers,
            d_model=shape.hidden_size,
            n_ctx=min(shape.max_position_embeddings, 1024),
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
            rotary_base=round(rotary_base_of(shape)),
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
        if topk is not None:
            # Its loader knows no TopK, its transcoders do; theirs would keep what is below 0.
            for coder in coders.transcoders:
                coder.activation_function = torch.nn.Sequential(torch.nn.ReLU(), TopK(topk))
        plain = HookedTransformer(config)
        plain.load_state_dict(convert_llama_weights(model, config), strict=False)
        self.model = TransformerLensReplacementModel(config)
        self.model.tokenizer = tokenizer
        self.model.load_state_dict(plain.state_dict(), strict=False)
        self.model._configure_replacement_model(coders)

    def graph(self, ids: list[int], goals: list[int], batch: int, features: int | None) -> Any:
        from circuit_tracer.attribution.attribute import attribute

        return attribute(
            torch.tensor(ids),
            self.model,
            attribution_targets=torch.tensor(goals),
            batch_size=batch,
            max_feature_nodes=features,
        )


Key = tuple[str, int, int, int]
"""Kind, layer, position, number of a node."""


def their_edges(
    graph: Any, goals: list[int], length: int
) -> tuple[list[Key], list[int], torch.Tensor]:
    """(nodes, which are targets, edges ``[targets, sources]``) of circuit-tracer's graph."""
    features = graph.active_features[graph.selected_features].tolist()
    layers = graph.cfg.n_layers
    keys: list[Key] = [("feature", layer, place, number) for layer, place, number in features]
    keys += [("error", layer, place, -1) for layer in range(layers) for place in range(length)]
    keys += [("token", -1, place, -1) for place in range(length)]
    keys += [("logit", -1, length - 1, number) for number in goals]
    targets = [*range(len(features)), *range(len(keys) - len(goals), len(keys))]
    return keys, targets, graph.adjacency_matrix[targets]


def our_edges(graph: Graph, keys: list[Key], targets: list[int]) -> tuple[torch.Tensor, float]:
    """(edges ``[targets, sources]`` in the order of ``keys``, share of the mass of no key)."""
    nodes, place_of = graph.nodes, {key: place for place, key in enumerate(keys)}
    row_of = np.full(len(keys) + 1, -1)
    row_of[targets] = np.arange(len(targets))
    own = np.full(len(nodes), -1)
    for node in range(len(nodes)):
        kind = NodeKind(nodes.kind[node])
        layer, place, number = (int(x[node]) for x in (nodes.layer, nodes.position, nodes.number))
        if kind in (NodeKind.error, NodeKind.token):
            number = -1
        if kind in (NodeKind.token, NodeKind.logit):
            layer = -1
        own[node] = place_of.get((kind.name, layer, place, number), -1)
    target = row_of[own[graph.rows.target[graph.rows.row_of_edge]]]
    source = own[graph.rows.source]
    weight = graph.rows.weight
    edges = torch.zeros(len(targets), len(keys), dtype=torch.float64)
    shared = (target >= 0) & (source >= 0)
    edges[target[shared], source[shared]] = torch.from_numpy(weight[shared])
    return edges, float(np.abs(weight[~shared]).sum() / np.abs(weight).sum())


def compared(ours: Graph, theirs: Any, goals: list[int], length: int) -> dict[str, float]:
    keys, targets, their_matrix = their_edges(theirs, goals, length)
    matrix, alone = our_edges(ours, keys, targets)
    # What the first token's MLPs gave is not in their graph.
    has = torch.tensor([not (key[0] == "error" and key[2] == 0) for key in keys])
    first = matrix[:, ~has].abs().sum() / matrix.abs().sum()
    apart = (matrix - their_matrix)[:, has].abs()
    largest = matrix[:, has].abs().amax(1, keepdim=True).clamp_min(1e-30)
    # Features that reach no goal, or stand behind those asked for, are not traced here.
    rows = (matrix != 0).any(1)
    return {
        "apart": float((apart / largest)[rows].max()),
        "ours_alone": alone + (1 - alone) * float(first),
        "rows": len(ours.rows.target),
        "their_rows": len(targets),
        "both": int(rows.sum()),
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


@dataclass(frozen=True)
class Setting:
    """What both trace."""

    name: str
    host: HostModel
    coders: list[HostedSAE]
    peer: Peer
    prompt: Callable[[int], list[int]]
    """Token ids of a length."""
    goals: tuple[int, ...] | None
    """Tokens whose logits are explained; None: the three likeliest."""


def random_setting(options: argparse.Namespace) -> Setting:
    host = host_of(options.width, options.layers, options.heads)
    saes = [
        coder_of(options.width, options.latents, options.active, layer)
        for layer in range(options.layers)
    ]
    reads, writes = sites(options.layers)
    with tempfile.TemporaryDirectory() as root:
        save_set(saes, Path(root) / "set", Places(reads, writes, "random"))
        peer = Peer(host.model, host.tokenizer, Path(root) / "set", None)
    generator = torch.Generator().manual_seed(1)
    return Setting(
        f"random: {options.layers} layers of width {options.width}, {options.latents} latents each",
        host,
        hosted(host, saes),
        peer,
        lambda length: [0, *torch.randint(3, 400, (length - 1,), generator=generator).tolist()],
        RANDOM_GOALS,
    )


def trained_setting(folder: Path, text: Path, home: Path) -> Setting:
    """SmolLM2 with the transcoders of a folder."""
    host = HostModel.load(ModelSpec(device="cpu", dtype="float32"), Workspace(home))
    saes = [open_folder(folder, Wanted(layer)).sae for layer in layers_in(folder)]
    kinds = [sae.spec for sae in saes]
    topk = next((int(kind.k) for kind in kinds if isinstance(kind, TopKSpec)), None)
    ids = host.tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    return Setting(
        f"{host.name}, {len(saes)} layers, {saes[0].d_sae} latents each, text {text.name}",
        host,
        hosted(host, saes),
        Peer(host.model, host.tokenizer, folder, topk),
        # circuit-tracer puts the first token of all texts before what does not start with it.
        lambda length: [host.tokenizer.bos_token_id, *ids[: length - 1]],
        None,
    )


def sites(layers: int) -> tuple[list[str], list[str]]:
    reads, writes = (
        [f"blocks.{layer}.{site}" for layer in range(layers)] for site in (READS, WRITES)
    )
    return reads, writes


def hosted(host: HostModel, saes: list[SAE]) -> list[HostedSAE]:
    return [HostedSAE.at(host, *each) for each in zip(saes, *sites(len(saes)), strict=True)]


def measured(setting: Setting, length: int, options: argparse.Namespace) -> str:
    """A line of the table: both in turns on one prompt."""
    ids = setting.prompt(length)
    tracing = TraceOptions(
        batch=options.batch,
        most_features=options.features,
        untraced=0.0,
        row_mass=1.0,
        row_edges=None,
    )
    if setting.goals is None:
        logits_V = read_prompt(ReplacementModel(setting.host, setting.coders, 1), ids).logits_V
        goals = logits_V.topk(3).indices.tolist()
    else:
        goals = list(setting.goals)

    def ours() -> Graph:
        prompt = read_prompt(ReplacementModel(setting.host, setting.coders, 1), ids)
        return trace(prompt, token_logits(prompt, goals), tracing)

    def theirs() -> Any:
        return setting.peer.graph(ids, goals, options.batch, options.features)

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    rose: dict[str, float] = {}
    made: dict[str, Any] = {}
    for _ in range(options.rounds):
        for name, work in (("ours", ours), ("theirs", theirs)):
            took, more, made[name] = timed(work)
            seconds[name].append(took)
            rose.setdefault(name, more)
    figures = compared(made["ours"], made["theirs"], goals, length)
    middle = {name: statistics.median(each) for name, each in seconds.items()}
    cells = [
        str(length),
        f"{figures['rows']:,} / {figures['their_rows']:,} ({figures['both']:,})",
        *(f"{min(seconds[name]):.2f} / {middle[name]:.2f}" for name in ("ours", "theirs")),
        f"{middle['theirs'] / middle['ours']:.1f}",
        *(f"{rose[name]:.0f}" for name in ("ours", "theirs")),
        f"{figures['apart']:.1e}",
        f"{figures['ours_alone']:.1%}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", type=int, help="so many are traced; else all")
    parser.add_argument("--set", type=Path, help="trained transcoders of SmolLM2")
    parser.add_argument("--text", type=Path, default=Path("README.md"), help="what SmolLM2 reads")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--active", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as home:
        setting = (
            trained_setting(options.set, options.text, Path(home))
            if options.set
            else random_setting(options)
        )
        print(
            f"{setting.name}; batch {options.batch}, {options.threads} thread(s), "
            f"{options.rounds} rounds in turns\n"
        )
        print(HEADINGS)
        print("|" + "---|" * (HEADINGS.count("|") - 1))
        for length in options.tokens:
            print(measured(setting, length, options), flush=True)


HEADINGS = (
    "| tokens | rows, ours / theirs (both) | ours, s (least / median) | circuit-tracer, s "
    "| times as fast | ours, MB more | theirs, MB more | edges apart, of the largest "
    "| mass that only ours has |"
)

if __name__ == "__main__":
    main()
