"""What an attribution graph is made of, and what is said of it: prompt, coders, goals, pruning,
checks by ablation.  No torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.described import Described
from monosemy.specs.part import LARGE, Latent, Part, Seed, added_later
from monosemy.specs.references import Plain
from monosemy.specs.rest.circuits import WithInterval

MOST_PROMPT = 100_000
"""Characters of a prompt."""
MOST_PROMPTS = 200
"""Of one run."""
MOST_LOGITS = 100

TokenWord = Annotated[str, Plain(), Field(min_length=1, max_length=200)]
"""A token by its text, with its leading space."""
TokenOrId = TokenWord | Annotated[int, Field(ge=0, le=2**31 - 1)]


class TopLogits(Part):
    """The likeliest next tokens, each weighted by its probability."""

    of: Literal["top"] = "top"
    mass: float = Field(0.95, gt=0, le=1)
    """The fewest tokens whose probabilities add up to it."""
    most: int = Field(10, ge=1, le=MOST_LOGITS)
    """So many tokens at most."""


class TokenLogits(Part):
    """Next tokens of one's choice, each weighted by its probability."""

    of: Literal["tokens"] = "tokens"
    tokens: list[TokenOrId] = Field(min_length=1, max_length=MOST_LOGITS)
    """By text, which must be one token of the model's, or by id."""


class LogitDifferenceOf(Part):
    """How much likelier one next token is than another: the difference of their logits."""

    of: Literal["difference"] = "difference"
    token: TokenOrId
    other: TokenOrId

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.token == self.other:
            raise ValueError("token and other are the same")
        return self


class StreamDirection(Part):
    """The stream at one token along any direction: a probe, a decoder row."""

    of: Literal["direction"] = "direction"
    vector: list[Annotated[float, Field(ge=-LARGE, le=LARGE)]] = Field(
        min_length=1, max_length=65_536
    )
    """One number for each dimension of the stream."""
    site: Annotated[str, Plain(), Field(max_length=80)]
    """`blocks.N.hook_resid_pre` or `blocks.N.hook_resid_post`."""
    position: int | None = Field(None, ge=0, le=10**6)
    """Of the token; None takes the last."""


GraphGoals = Annotated[
    TopLogits | TokenLogits | LogitDifferenceOf | StreamDirection, Field(discriminator="of")
]
"""What a graph explains."""


class GraphTrace(Part):
    """How far a graph is traced."""

    features: int | None = Field(7500, ge=0, le=10_000_000)
    """Features whose inputs are traced, at most; None: no bound."""
    untraced: float = Field(0.01, ge=0, le=1)
    """It is enough when less than this share of the influence ends in features whose inputs were
    not traced."""
    row_mass: float = Field(0.99, gt=0, le=1)
    """Of the edges into a node the largest are kept that hold this share of their absolute values;
    the rest is one number."""
    row_edges: int | None = Field(20_000, ge=1, le=10_000_000)
    """So many of them at most; None: no bound."""
    batch: int = Field(64, ge=1, le=4096)
    """Nodes that are traced together; memory is in proportion."""
    devices: int = added_later(1, ge=1, le=64)
    """GPUs that trace batches beside one another, four at most at once; on a CPU threads, each with
    the memory of a batch.  The graph is the same whatever their number."""


class GraphPruning(Part):
    """What of a graph is stored and shown."""

    nodes: float = Field(0.8, gt=0, le=1)
    """Features and errors are kept through which this share of the influence flows."""
    edges: float = Field(0.98, gt=0, le=1)
    """Of their edges those along which this share flows."""
    most_nodes: int | None = Field(5000, ge=1, le=1_000_000)
    """So many features and errors at most, errors that pruned features went to aside."""


class GraphCheckSpec(Part):
    """What is ablated in the host, to see how far a graph is to be believed."""

    nodes: int = Field(30, ge=0, le=1000)
    """Features of the strongest effects on the goal; as many others of like activation beside."""
    edges: int = Field(30, ge=0, le=1000)
    """Edges between features along which most flows; as many random ones of like size beside."""
    random_circuits: int = Field(20, ge=0, le=500)
    """Random circuits with as many features at each layer and token as the pruned graph has."""
    keep: float | None = Field(0.8, gt=0, le=1)
    """The smallest circuit is sought that keeps this share of what all features do; None leaves it
    out."""
    seed: Seed = 0
    """Of what is drawn and resampled."""


GraphPrompt = Annotated[str, Plain(), Field(min_length=1, max_length=MOST_PROMPT)]
"""A text as the host reads it; a BOS is put before it where the host has one."""


class GraphOptions(Part):
    """How a graph of any prompt is made."""

    goals: GraphGoals = TopLogits()
    """What is explained: next tokens, a difference of two, or a direction of the stream."""
    whole_tokens: int = Field(1, ge=0, le=64)
    """Of so many first tokens an MLP's output is one error, and attention has no features there:
    they hold the attention sink."""
    trace: GraphTrace = GraphTrace()
    """How far it is traced."""
    pruning: GraphPruning = GraphPruning()
    """What of it is kept."""
    check: GraphCheckSpec | None = GraphCheckSpec()
    """What is ablated in the host; None leaves it out."""


Held = Literal["all", "mlps", "nothing"]
"""What stays as it was on the clean prompt while features are changed: `all`, patterns, norms, what
MLPs give and what SAEs of attention stand for (the graph's own world); `mlps`, the latter two;
`nothing`."""


class OnePrompt(Part):
    """What a graph is of."""

    prompt: GraphPrompt
    """As the host reads it; a BOS is put before it where the host has one."""


class GraphSpec(GraphOptions, OnePrompt):
    """An attribution graph of one prompt."""


class SomePrompts(Part):
    """What the graphs of a run are of."""

    prompt: GraphPrompt | None = None
    """As the host reads it; a BOS is put before it where the host has one."""
    prompts: list[GraphPrompt] = added_later([], max_length=MOST_PROMPTS)
    """Several prompts instead: a graph of each, by the same rules."""

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.prompt is None) == (not self.prompts):
            raise ValueError("give either prompt, or prompts")
        if len({*self.prompts}) < len(self.prompts):
            raise ValueError("prompts holds something twice")
        return self


class GraphScores(Described):
    """What of a graph reaches the prompt."""

    replacement: float
    """Of the influence that ends at the prompt, at errors, at features not traced or in what rows
    left out, the share at the prompt."""
    completeness: float
    """How much of the inputs of features and logits is no error nor left out, by influence."""
    completeness_ct: float
    """The same as circuit-tracer has it, where what has no inputs counts as explained."""
    ends: dict[str, float]
    """Where the influence ends, by kind; they add up to the goals' weights."""


class PredictedChange(Described):
    """One ablation: what the graph says, and what the host does."""

    name: str
    predicted: float
    frozen: float | None
    """With patterns, norms and features held: the graph itself, to rounding."""
    mlps_held: float | None
    """With MLPs' outputs held, patterns and norms free; only of edges."""
    free: float
    """With nothing held."""


class AblationAgreement(Described):
    """How the changes of some ablations agree with what the graph predicts."""

    n: int
    slope: WithInterval | None
    """Real change per predicted change (least squares through 0); ablations resampled."""
    spearman: WithInterval | None
    """Rank correlation of real and predicted changes."""
    same_sign: float | None
    """Share of real changes that have the sign of the predicted ones."""
    mean_real: float | None
    """Mean absolute real change, in logits or units of activation."""


class CheckedPart(Described):
    """Nodes, or edges: the strongest ones, and others beside them."""

    strongest: AblationAgreement
    matched: AblationAgreement
    """Others of like activation (nodes) or size (edges), drawn at random."""
    mlps_held: AblationAgreement | None
    """The strongest, with MLPs' outputs held."""
    changes: list[PredictedChange]
    """Of the strongest, one by one."""


class CircuitShare(Described):
    """What a circuit does alone, and what is lost without it, as shares of what all features do."""

    features: int
    whole: float
    """The goal with all features."""
    none: float
    """The goal with none of them."""
    kept: float | None
    """(goal with the circuit alone - none) / (whole - none); null where both are the same."""
    lost: float | None
    """(whole - goal without the circuit) / (whole - none)."""
    random_kept: WithInterval | None
    """The same of random circuits with as many features at each layer and token: mean, and the
    middle 95 % of them."""
    random_lost: WithInterval | None


class CircuitAtSize(Described):
    """What the features through which most influence flows do alone."""

    features: int
    kept: float
    """Of what all features do, errors kept."""
    random_kept: float
    """The same of as many features of random orders, mean; and the least and the most."""
    random_low: float
    random_high: float


class CircuitSearch(Described):
    """The smallest circuit for a wanted share of what all features do."""

    wanted: float
    features: int | None
    """So many features, those through which most influence flows; null where not even all of them
    keep as much."""
    kept: float | None
    names: list[str]
    """Them: layer/latent@position (layer.attn/ of attention), those of the most influence first."""
    curve: list[CircuitAtSize]
    """At sizes that double, up to all features that are active."""
    orders: int
    """Random orders."""


class GraphCheck(Described):
    """How far one goal of a graph is to be believed."""

    goal: str
    nodes: CheckedPart | None
    edges: CheckedPart | None
    with_errors: CircuitShare
    """Errors of the clean prompt are added to what the circuit makes."""
    without_errors: CircuitShare
    """They are left out."""
    search: CircuitSearch | None = None
    """The smallest circuit, errors kept; null where none was sought."""


class GraphNode(Described):
    """A node, as listings have it."""

    node: int
    """Its number in the graph."""
    kind: Literal["feature", "error", "token", "position", "bias", "logit"]
    layer: int
    """-1 where there is none."""
    branch: Literal["attention", "mlp"] | None
    """Which half of its block a feature or an error is of; null of the others, and in a feature
    circuit."""
    position: int
    coder: int
    latent: Latent | None
    """Of a feature."""
    label: str
    """Token, kind of a bias, or what a logit is of."""
    value: float
    """Activation, or probability."""
    influence: float
    """Share of the goals' weight that flows through it."""
    positive: float
    """Sum of the positive edges into it, biases left out."""
    negative: float
    """Sum of the negative ones."""


class GraphEdge(Described):
    """An edge: what the source adds to the target."""

    source: int
    target: int
    weight: float


class GraphForecast(Described):
    """What a graph will take, told before it is traced."""

    tokens: int
    features: int
    """Active ones of the prompt."""
    rows: int
    """That may be traced at most."""
    seconds: float
    """If all of them are; from a timing of one block."""
    bytes: int
    """At the height of it, beside the host and its coders."""


class GraphGoalView(Described):
    """What a graph explains."""

    label: str
    weight: float
    """How much it counts in influence."""
    value: float
    """The centred logit, the difference, or the stream along the direction."""


class GraphSummary(Described):
    """What is said of a graph."""

    tokens: list[str]
    goals: list[GraphGoalView]
    forecast: GraphForecast | None
    """None of a graph from a file."""
    traced: int
    """Features whose inputs were traced."""
    untraced: float
    """Share of the influence that ends in features whose inputs were not."""
    rounding: float
    """What a row misses of its value at most, as a share of the mass of its parts."""
    least_row_mass: float
    """The least share of a row's absolute values that its kept edges hold."""
    whole: GraphScores
    pruned: GraphScores
    """Never better than the whole."""
    nodes: int
    """Of the pruned graph."""
    edges: int
    check: GraphCheck | None = None
    """Of the first goal."""


class GraphSae(Described):
    """An SAE that a graph was made with."""

    id: str
    """Of the service; in a notebook the name of its folder."""
    name: str
    digest: str
    """Of its weights and settings."""
