"""What a search for a circuit works on: prompts with and without a task, and what is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.part import LARGE, Part, Seed
from monosemy.specs.references import Plain

MOST_PROMPTS = 5_000
"""Of each label."""
_LONGEST = 20_000
"""Characters of a prompt."""

_Word = Annotated[str, Plain(), Field(min_length=1, max_length=200)]
Head = Annotated[list[Annotated[int, Field(ge=0, le=100_000)]], Field(min_length=2, max_length=2)]
"""[layer, head], both from 0."""

KnownCircuit = Literal["gpt2-ioi", "gpt2-greater-than", "attn-only-4l-docstring"]
"""Published lists of heads."""


class PromptItem(Part):
    """A prompt of one's own."""

    text: Annotated[str, Plain()] = Field(min_length=1, max_length=_LONGEST)
    positive: bool
    """Whether it has what the task is about."""
    right: list[_Word] = Field(default_factory=list, max_length=1000)
    """What may follow it if it is understood, each with its leading space: the first token counts.
    The causal check needs it, and `wrong`."""
    wrong: list[_Word] = Field(default_factory=list, max_length=1000)
    """What to tell these from."""
    template: _Word | None = None
    """Prompts of one template have equally many tokens, and mean activations are taken token by
    token over them; else over all tokens."""


class GeneratedPrompts(Part):
    """Prompts made of single tokens of the model's own tokenizer; each positive one has a negative
    that differs from it in what the task is about.  Base of the tasks below."""

    if TYPE_CHECKING:
        task: str

    count: int = Field(250, ge=4, le=MOST_PROMPTS)
    """Prompts of each label."""
    seed: Seed = 0
    """Of which words are drawn."""


class IndirectObjectTask(GeneratedPrompts):
    """Who is given something: "When Mary and John went to the store, John gave a drink to".  In the
    negatives a third name gives."""

    task: Literal["indirect-objects"] = "indirect-objects"
    templates: list[_Word] | None = Field(None, min_length=1, max_length=16)
    """Of `went`, `long-day`, `arrived`, `working`; None takes the first two."""


class GreaterThanTask(GeneratedPrompts):
    """Which years may follow: "The war lasted from the year 1732 to the year 17".  In the negatives
    it is the first year of the century."""

    task: Literal["greater-than"] = "greater-than"


class DocstringTask(GeneratedPrompts):
    """Which argument comes next in the docstring of a function.  In the negatives all arguments
    are others."""

    task: Literal["docstrings"] = "docstrings"


class LabelledPrompts(Part):
    """Prompts of one's own."""

    task: Literal["given"] = "given"
    items: list[PromptItem] = Field(min_length=8, max_length=2 * MOST_PROMPTS)
    """Of both labels; at least four of each."""

    @model_validator(mode="after")
    def _two_sets(self) -> Self:
        sides = [
            {each.text for each in self.items if each.positive is sign} for sign in (True, False)
        ]
        if min(map(len, sides)) < 4:
            raise ValueError(
                f"there are {len(sides[0])} different positive and {len(sides[1])} different"
                " negative prompts; at least 4 of each are needed"
            )
        if sides[0] == sides[1]:
            raise ValueError("the positive and the negative prompts are the same")
        return self


PromptSource = Annotated[
    IndirectObjectTask | GreaterThanTask | DocstringTask | LabelledPrompts,
    Field(discriminator="task"),
]


CircuitTask = Literal["indirect-objects", "greater-than", "docstrings", "given"]
"""What a circuit may be of: the words of ``PromptSource``."""


class CodesSpec(Part):
    """The small SAE whose strongest latent is the code of a head's output."""

    latents: int = Field(200, ge=2, le=4096)
    """How many codes there may be."""
    examples: int = Field(10, ge=2, le=1000)
    """Prompts, of both labels, that it is trained on."""
    epochs: int = Field(500, ge=1, le=100_000)
    """Steps; each sees all of these."""
    learning_rate: float = Field(1e-3, gt=0, le=LARGE)
    """Of Adam."""
    sparsity: float = Field(0.02, ge=0, le=LARGE)
    """Weight of the mean absolute activation in the loss."""
    seeds: int = Field(3, ge=1, le=20)
    """SAEs that are trained, each on examples of its own: scores are means over them, and how much
    they agree is told."""
    seed: Seed = 0
    """The first of them."""


class CausalSpec(Part):
    """What happens to the answers without the circuit, and without the rest."""

    prompts: int = Field(64, ge=2, le=MOST_PROMPTS)
    """Positive prompts with right and wrong answers; less where there are fewer."""
    sizes: list[Annotated[int, Field(ge=1, le=1_000_000)]] | None = Field(
        None, min_length=1, max_length=32
    )
    """Numbers of heads to keep, and to remove; None takes seven, up to all but a few."""
    random_sets: int = Field(3, ge=1, le=50)
    """Sets of random heads of each size."""


Edges = Literal["auto", "all", "significant", "none"]
"""Which pairs of heads are scored: `significant` are those of heads that pass the false discovery
rate; `auto` takes all where that is done in minutes, else those."""
