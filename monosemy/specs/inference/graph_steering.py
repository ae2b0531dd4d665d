"""Steering from an attribution graph: as the API takes and gives it, and as the inference server
does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from monosemy.specs.graphs import GraphGoals, Held, TopLogits
from monosemy.specs.hooks import MOST_PLACES
from monosemy.specs.inference.answer import Answer
from monosemy.specs.inference.prompts import SaeName, SaePlace
from monosemy.specs.part import Latent, Part
from monosemy.specs.parts import ModelSpec

MOST_EDITS = 50
MOST_GRAPH_TOKENS = 200_000
"""No prompt of a graph is longer; how many a host reads at once it says itself."""
MOST_TOLD = 200
"""Edited activations that an answer lists."""

EditMode = Literal["ablate", "scale", "clamp", "add"]
EditPosition = Annotated[int, Field(ge=0, lt=MOST_GRAPH_TOKENS)] | Literal["firing", "every"]


class FeatureChange(Part):
    """What is done to the activation of a feature."""

    mode: EditMode = "ablate"
    """`ablate`: it becomes 0; `scale`: it is multiplied by the strength; `clamp`: it becomes the
    strength, whether the feature fires or not; `add`: the strength is added to it."""
    strength: float | None = Field(None, ge=-1e6, le=1e6)
    """A factor for `scale`, an activation for `clamp` and `add`; not with `ablate`."""

    @model_validator(mode="after")
    def _how_far(self) -> Self:
        if self.strength is None and self.mode != "ablate":
            raise ValueError(f"{self.mode} needs a strength")
        if self.strength is not None and self.mode == "ablate":
            raise ValueError("ablate takes no strength: leave it out, or scale or clamp instead")
        return self

    @property
    def affine(self) -> tuple[float, float]:
        """(factor, addend) that make the new activation of the old one."""
        strength = 0.0 if self.strength is None else self.strength
        return {
            "ablate": (0.0, 0.0),
            "scale": (strength, 0.0),
            "clamp": (0.0, strength),
            "add": (1.0, strength),
        }[self.mode]


class GraphEdit(FeatureChange):
    """A feature of a graph's prompt, and what is done to it."""

    node: int | None = Field(None, ge=0, lt=2**31)
    """Number of a feature's node in the graph; or give `sae` and `latent`."""
    sae: SaeName | None = None
    """Name of one of the graph's SAEs."""
    latent: Latent | None = None
    """Of that SAE; the graph need not have kept it."""
    position: EditPosition | None = None
    """A token of the prompt, from 0; `firing`, all at which the feature fires; `every`, all that
    its SAE takes. Null is the node's own token, and `firing` of a latent."""

    @model_validator(mode="after")
    def _a_node_or_a_latent(self) -> Self:
        named = [self.sae is not None, self.latent is not None]
        if any(named) == (self.node is not None) or any(named) != all(named):
            raise ValueError("give node, or sae and latent")
        return self


class GraphSteering(Part):
    """How an intervention is run, and what of it is told."""

    held: Held = "nothing"
    """What stays as it was while features are changed. `nothing`: the host runs on as it is;
    `mlps`: MLPs' outputs stay, so that no other feature changes what it writes; `all`: patterns and
    norms too, which is the graph's own world."""
    top: int = Field(10, ge=1, le=100)
    """Likeliest next tokens that are told, before and after."""
    features: int = Field(20, ge=0, le=MOST_TOLD)
    """Other features that are told, those whose activations change most."""


class GraphSteerRequest(GraphSteering):
    """Features to be changed in a graph's prompt, all at once."""

    edits: list[GraphEdit] = Field(min_length=1, max_length=MOST_EDITS)
    """Each is of other features or tokens than the rest."""


class PlacedEdit(FeatureChange):
    """An edit by the place of its SAE in the graph."""

    coder: int = Field(ge=0, lt=MOST_PLACES)
    latent: Latent
    position: EditPosition


class GraphPrompt(Part):
    """The prompt of a stored graph, as the API names it to the inference server."""

    model: ModelSpec
    saes: list[SaePlace] = Field(min_length=1, max_length=MOST_PLACES)
    """In the order of the nodes' `coder`."""
    ids: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        min_length=2, max_length=MOST_GRAPH_TOKENS
    )
    """With the BOS that the graph was traced with."""
    whole_tokens: int = Field(ge=0)
    fingerprint: str | None = None
    """Of the host model that it was traced in."""


class GraphSteerCall(GraphPrompt, GraphSteering):
    """What the API sends on."""

    goals: GraphGoals = TopLogits()
    edits: list[PlacedEdit] = Field(min_length=1, max_length=MOST_EDITS)


class FeaturePlace(Answer):
    """A feature at a token."""

    coder: int
    """Which of the graph's SAEs it is of."""
    latent: int
    position: int
    node: int | None = None
    """Its number in the graph; null where pruning left it out."""
    label: str | None = None


class EditedFeature(FeaturePlace):
    """An activation that was changed."""

    before: float
    """0 where it does not fire."""
    after: float


class MovedFeature(FeaturePlace):
    """A feature that was left alone, and that changes with those that were not."""

    before: float
    after: float
    predicted: float | None
    """The change by the graph: along all paths from the changed features, features taken as linear.
    Null of a feature that did not fire before, which the graph does not know."""


class SteeredGoal(Answer):
    """One number that the graph explains: a centred logit, a difference or a direction."""

    label: str
    before: float
    after: float
    direct: float
    """The change by the edges from the changed features to it alone: what happens where all is
    held."""
    predicted: float
    """The change by the graph: along all paths, features taken as linear."""


class SteeredToken(Answer):
    """A next token."""

    id: int
    text: str
    goal: bool
    """Whether the graph explains it."""
    logit_before: float
    """Less the mean of all logits, before a soft cap, as goals are."""
    logit_after: float
    probability_before: float
    probability_after: float


class GraphSteered(Answer):
    """What the changed features do to what comes next, by the graph and really."""

    held: Held
    edited: list[EditedFeature]
    """The largest changes first; 200 at most."""
    edits: int
    """Activations that were changed, those not listed included."""
    goals: list[SteeredGoal]
    tokens: list[SteeredToken]
    """The likeliest before and after, and those that the graph explains; by the mean of both
    probabilities."""
    kl: float
    """Kullback-Leibler divergence of the probabilities after from those before, in nats: mean log
    ratio under those before."""
    features: list[MovedFeature]
    """Other features, those whose activations change most first."""
