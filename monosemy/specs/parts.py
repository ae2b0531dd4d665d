"""The parts that run specs are made of: host model, text, SAE, training, interpretation.

Every field has its docstring; ``extra`` keys are refused (``monosemy.specs.parse`` names the
nearest known key).  Importable without torch: the API validates specs with these very classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from monosemy.specs.messages import pattern
from monosemy.specs.part import (
    LARGE,
    MOST_LATENTS,
    MOST_LISTED,
    MOST_TOKENS,
    NAME,
    PLACE,
    Count,
    Latent,
    Part,
    Seed,
    added_later,
)
from monosemy.specs.references import Plain, Source

Packing = Literal["document", "packed", "chat", "chat_block_diagonal", "document_block_diagonal"]
"""How documents share rows; see ``TextSpec.packing``."""


class ModelSpec(Part):
    name: Annotated[str, Source("model")] = Field(
        "smollm2-135m-instruct", min_length=1, max_length=PLACE
    )
    """``smollm2-135m-instruct`` (shipped in a package), a hub id, a folder, or a ``.gguf`` file."""
    revision: Annotated[str, Plain()] | None = Field(None, max_length=NAME)
    """Branch, tag or commit of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """``auto``: bfloat16 where this machine multiplies it faster than float32, else float32."""
    device: Annotated[str, Plain()] = Field("auto", max_length=NAME)
    """``auto`` (cuda, mps or cpu, whichever is there first), or any torch device string."""


_ROLE = pattern(r"^[A-Za-z0-9_-]{1,40}$", "a word of letters, digits, _ and -, such as chat,")


class OtherHost(Part):
    """A host model beside the run's own: another state of the same model, say."""

    role: Annotated[str, Plain()] = Field(pattern=_ROLE, max_length=40)
    """What its sites are told by: ``chat`` for ``chat:blocks.9.hook_resid_post``."""
    model: ModelSpec
    """Which.  It must share the tokenizer of the run's own host model."""


class TextSpec(Part):
    source: Annotated[str, Source("text")] = Field(
        "wikipedia-sample", min_length=1, max_length=PLACE
    )
    """``wikipedia-sample`` (106 articles out of gensim's wheel, CC BY-SA), a local .txt, .jsonl,
    .jsonl.gz or .parquet file, or a Hugging Face dataset name."""
    column: Annotated[str, Plain()] = Field("text", max_length=NAME)
    """The field that holds the text, in jsonl, parquet and datasets.  For chats it holds the list
    of messages, and the default means ``messages`` where a record has that."""
    packing: Packing = "document"
    """What shares a row of the host model.  ``document``: nothing, a row is a piece of one document
    (long ones are cut).  ``packed``: rows are filled with several documents, each ended by the EOS
    token, and attention crosses them, as common SAE training code does; chats are rendered first.
    ``chat``: FAST, every dialogue is rendered with the model's own chat template and run alone, cut
    off at context_size, its special tokens kept and trained on, no BOS but the template's own.
    ``chat_block_diagonal`` and ``document_block_diagonal``: the rows of ``chat`` and ``document``,
    several at once beneath a block-diagonal mask, with positions that restart: the same
    activations from fewer and fuller forwards."""
    subset: Annotated[str, Plain()] | None = Field(None, max_length=NAME)
    """Configuration name of a Hugging Face dataset."""
    split: Annotated[str, Plain()] = Field("train", max_length=NAME)
    """Split of a Hugging Face dataset."""
    context_size: int = Field(128, ge=8, le=8192)
    """Tokens per row of the host model, the prepended BOS included."""
    max_tokens: Count | None = None
    """Stop tokenising here; None takes the whole text."""
    prepend_bos: bool = True
    """Put the tokenizer's BOS before each row (if it has one); it is never trained on.  Chats have
    what their template writes, and no more."""
    heldout_fraction: float = Field(0.1, gt=0, lt=0.9)
    """Share of documents, by hash, that the SAE never trains on and is evaluated on."""


class TrainingSpec(Part):
    tokens: Count = 1_500_000
    """Tokens to train on; a text with fewer is read again (reshuffled) until they are reached."""
    batch_tokens: int = Field(2048, ge=1, le=2**31 - 1)
    """Tokens per optimiser step."""
    buffer_tokens: int = Field(65_536, ge=2, le=MOST_TOKENS)
    """Size of the shuffling ring buffer, in tokens."""
    buffer_device: Literal["auto", "device", "host"] = added_later("auto")
    """Where the buffer lies: on the ``device`` that trains, or in ``host`` memory, from which
    batches go to a GPU in pinned blocks.  ``auto`` takes a GPU where it fits beside the SAEs, else
    host memory.  The order of the tokens is the same."""
    buffer_dtype: Literal["auto", "bfloat16", "float32"] = added_later("auto")
    """``auto`` keeps activations in bfloat16 on a GPU where they come in it (from the host model or
    a cache), and in float32 elsewhere.  Batches are float32 in any case."""
    host_rows: int = Field(16, ge=1, le=65_536)
    """Rows of the token store per forward of the host model."""
    learning_rate: float = Field(2e-3, gt=0, le=LARGE)
    """Peak step size."""
    optimiser: Literal["adam", "signum", "muon"] = "adam"
    """``adam`` keeps two numbers per weight, ``signum`` and ``muon`` one."""
    warmup_steps: int = Field(50, ge=0, le=MOST_TOKENS)
    """Linear warm-up."""
    decay_fraction: float = Field(0.2, ge=0, le=1)
    """The last share of the steps over which the rate falls to zero."""
    decay: Literal["linear", "cosine"] = "linear"
    """How it falls."""
    gradient_clip: float = Field(1.0, gt=0, le=LARGE)
    """Largest gradient norm."""
    decoder_bias: Literal["mean", "geometric_median", "zero"] = "mean"
    """Where ``b_dec`` starts."""
    seed: Seed = 0
    """Seeds initialisation, row order and shuffling."""
    resample_every: int | None = added_later(None, ge=1, le=MOST_TOKENS)
    """Every so many steps dead latents start anew, along what badly reconstructed tokens miss, and
    the optimiser forgets them; None never.  ``sae.dead_after_tokens`` says what is dead."""
    resample_until: float = added_later(0.8, gt=0, le=1)
    """Share of the steps after which latents are left as they are."""
    tracker: Literal["wandb", "trackio"] | None = None
    """Also send readings to Weights & Biases or trackio, which must be installed."""
    devices: int = Field(1, ge=1, le=1024)
    """Processes that train together, each on a GPU of its own (on a CPU, with its share of the
    cores).  Each runs the host model on its share of the text."""
    split: Literal["batch", "dictionary"] = "batch"
    """What else is split over ``devices``: the ``batch``, where each holds the whole SAE, or the
    ``dictionary``, where each holds a part of the latents (topk alone)."""
    checkpoint_seconds: float = Field(30.0, gt=0, le=LARGE)
    """A checkpoint is written at least this often."""
    cache_activations: bool = True
    """Keep the activations on disk (bfloat16), so that further epochs, the evaluation and the index
    need no further forward of the host model."""
    max_norm_ratio: float | None = Field(10.0, gt=1, le=LARGE)
    """Tokens whose activation norm exceeds this multiple of the median are left out of training and
    index, and counted; None keeps all."""
    frozen_decoder_baseline: bool = True
    """Train, on the same batches, one whose random decoder never moves: what structure-free
    directions achieve."""

    @field_validator("devices")
    @classmethod
    def _batch_divides(cls, value: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch_tokens")
        if batch is not None and batch % value:
            raise ValueError(f"batch_tokens ({batch}) do not divide over {value} devices")
        return value


class EvaluationSpec(Part):
    tokens: Count = 4096
    """Held-out tokens for the loss of the spliced host model."""
    reconstruction_tokens: Count = 32_768
    """Held-out tokens for FVU, L0 and dead share."""
    ppl_percent: float | None = Field(None, gt=0, le=1000)
    """Also find the effective L0: how many latents per token are needed before the spliced model's
    perplexity is this many percent above that with all of them (PPL-p%).  None leaves the search
    out; it costs 25 passes over ``tokens``."""
    prune: float | None = added_later(None, ge=0, le=LARGE)
    """Also evaluate with leave-one-out pruning: a latent stays only where what the others leave of
    the token has more than this (in units of the activations) along its decoder row.  None leaves
    it out.  Not for SAEs that write elsewhere than they read."""


class IndexingSpec(Part):
    max_tokens: Count | None = None
    """Tokens to index; None takes the whole store."""
    top_examples: int = Field(16, ge=1, le=100)
    """Strongest examples kept per feature, no two from one document."""
    quantile_examples: int = Field(4, ge=0, le=50)
    """Further examples from each quantile of the positive activations."""
    quantiles: int = Field(5, ge=1, le=20)
    """Number of quantile strata."""
    window: int = Field(16, ge=1, le=128)
    """Tokens shown on each side of an example's token."""
    logit_tokens: int = Field(10, ge=1, le=50)
    """Promoted and suppressed tokens kept per feature."""
    neighbours: int = Field(8, ge=1, le=50)
    """Nearest features kept, by decoder cosine and by co-activation each."""


class PriceSpec(Part):
    """Prices per million tokens, in whatever currency the budget is in."""

    input: float = Field(0.0, ge=0, le=LARGE)
    """Of the prompt."""
    cached: float | None = Field(None, ge=0, le=LARGE)
    """Of the part of the prompt that the endpoint had cached; None takes ``input``."""
    output: float = Field(0.0, ge=0, le=LARGE)
    """Of the answer."""
    batch: float = Field(0.5, ge=0, le=1)
    """Share of these prices that calls through the Batch API cost."""

    def of_batches(self) -> PriceSpec:
        """The prices of batched calls."""
        share = self.batch
        cached = None if self.cached is None else share * self.cached
        return PriceSpec(
            input=share * self.input, cached=cached, output=share * self.output, batch=1.0
        )


BATCH_FEATURES = 256
"""Features whose questions wait together for one batch, per worker."""


JudgeTesting = Literal["warn", "require", "skip"]


class JudgeSpec(Part):
    """Which LLM explains and scores.  The key comes from the server's configuration, and by default
    so does the address."""

    url: Annotated[str, Source("judge")] | None = Field(None, max_length=500)
    """Another OpenAI-compatible endpoint, ending in ``/v1``, among those that the server allows
    (MONOSEMY_OUTBOUND_ALLOW).  The server's key is not sent there."""
    model: Annotated[str, Plain()] | None = Field(None, max_length=NAME)
    """Model name to ask for; None takes the server's default."""
    temperature: float = Field(0.0, ge=0, le=2)
    """Sampling temperature."""
    max_output_tokens: int = Field(160, ge=16, le=1_000_000)
    """Longest answer."""
    concurrency: int = Field(2, ge=1, le=256)
    """Calls under way at once, per worker."""
    batch: bool = False
    """Ask through the endpoint's Batch API: at OpenAI half the price, but answers within a day
    rather than seconds.  Explaining takes one batch, a score one for each explanation that is
    judged (its own, the shuffled, the empty one); what was cut off or malformed takes another."""
    test: JudgeTesting | None = added_later(None)
    """What is done about a judge that has not shown yet what it can.  ``warn``: it is asked planted
    questions first, 40 to explain or 80 to detect, once for each endpoint, model and prompt; what
    comes of it stands beside all that it gives.  ``require``: the same, and a run whose judge is at
    chance ends before it asks anything else.  ``skip``: it is not tested.  None takes the server's
    choice (``warn``)."""
    price: PriceSpec | None = None
    """What tokens cost; None takes the server's prices."""
    budget: float | None = Field(None, gt=0, le=LARGE)
    """The most that the run's calls may cost together.  No call is made that could exceed it; what
    is done by then is kept.  It needs prices."""

    @property
    def features_at_once(self) -> int:
        """Features under way at once: a batch is to hold the questions of many."""
        return BATCH_FEATURES if self.batch else self.concurrency


class FeatureSelection(Part):
    count: int = Field(8, ge=1, le=MOST_LATENTS)
    """How many features to take when ``indices`` is not given."""
    indices: list[Latent] | None = Field(None, max_length=MOST_LISTED)
    """Exactly these features, in this order.  Those that do not exist, or that the explainer cannot
    do without examples, are named in the result and hold up no other."""
    min_postings: int = Field(60, ge=1, le=MOST_TOKENS)
    """Features that fired on fewer tokens are not sampled."""
    max_density: float = Field(0.05, gt=0, le=1)
    """Features that fire more often than this share of tokens are not sampled."""
    seed: Seed = 0
    """Seeds the sample, which is stratified over log density."""

    @field_validator("indices")
    @classmethod
    def _not_empty(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and not value:
            raise ValueError("give at least one feature, or leave it out")
        return value
