"""What a task run finds: the supervised dictionary beside SAEs and baselines."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Literal

from monosemy.specs.described import Described

MethodKind = Literal["supervised", "sae", "frozen", "pca", "random"]
Verdict = Literal["unread", "found", "split", "occluded"]


class Estimate(Described):
    """A figure with its interval."""

    value: float | None
    """None where it is not defined: a difference of 0 is to be divided by, or there are no
    prompts."""
    low: float
    """Lower end of the 95 % interval: prompts of the test half resampled."""
    high: float
    n: int
    """Prompts."""


class Attribute(Described):
    """A respect in which prompts differ."""

    name: str
    values: list[str]
    pairs: int
    """Prompts of the test half with a counterfactual in this attribute."""


class Control(Described):
    """Edits of one attribute that change at most so many features at each node."""

    attribute: str
    features: int
    """The most that may change at a node; of the supervised dictionary one value becomes another,
    which changes 2."""
    accuracy: Estimate
    """Share of edits after which the likeliest token is that after the true counterfactual
    activations were put in place."""
    accuracy_changing: Estimate | None = None
    """The same of the pairs whose true counterfactual activations change the likeliest token; no
    edit has 0 there.  None where the run is of a version that did not tell them apart."""
    accuracy_answers: Estimate | None = None
    """The same among the task's answers alone: share of edits after which the likeliest of all
    tokens that answer (or wrongly answer) some prompt is that after the true activations, of the
    pairs in which they change it.  What else might follow, such as an article, has no say."""
    edited: float
    """Features that were changed at a node, on average."""
    distance: float
    """Mean of ``|edited - counterfactual| / |clean - counterfactual|`` over nodes: 1 is no edit."""
    magnitude: float | None
    """How much was taken away: 0 as much as the supervised edit takes, 1 everything that the
    dictionary has.  None for the supervised dictionary."""


class ControlFloor(Described):
    """What edits of an attribute are to be read beside."""

    attribute: str
    untouched: Estimate
    """Accuracy of no edit: the share of pairs whose true counterfactual activations do not change
    the likeliest token."""
    random: Estimate
    """Accuracy of a move of the supervised edit's length in a random direction at each node."""
    random_changing: Estimate | None = None
    """The same of the other pairs, of which no edit has 0."""
    random_answers: Estimate | None = None
    """The same among the task's answers alone."""
    pairs: int


class Approximation(Described):
    """How much of the task a reconstruction keeps."""

    sufficiency: Estimate
    """Mean logit difference with the reconstruction in place of the activations, over the clean
    one."""
    necessity: Estimate
    """1 where what the reconstruction leaves over (mean + activation - reconstruction) is as bad as
    the mean alone, 0 where it is as good as the activation."""
    r2: float
    """Share of the activations' variance on the test half that is reconstructed, mean over
    nodes."""


class MethodResult(Described):
    """One dictionary at the nodes of a section."""

    name: str
    kind: MethodKind
    sae: str | None
    """The SAE that it is of; a frozen-decoder baseline is that of this SAE."""
    features: int | None
    """Size of the dictionary at a node."""
    l0: float | None
    """Active features at a node, mean over the test half."""
    approximation: Approximation
    control: list[Control]


class Section(Described):
    """One site with all its positions, or all sites at once."""

    sites: list[str]
    mean_ablated: Estimate
    """Mean logit difference with the mean of the fitted half at every node."""
    floors: list[ControlFloor]
    methods: list[MethodResult]


class FeatureForValue(Described):
    """The feature, or features, that stand for a value."""

    value: str
    feature: int
    f1: float
    """Of the single feature on the test half."""
    features: list[int]
    """Those whose union fits best, in the order in which they were taken."""
    union_f1: float


class Interpretation(Described):
    """How one dictionary finds one attribute at one node."""

    site: str
    position: str
    method: str
    attribute: str
    verdict: Verdict
    """`unread`: the supervised dictionary does not tell the values here; `found`: single features
    do; `split`: only unions of features do; `occluded`: neither does."""
    by: str | None
    """Of what is occluded: the attribute with longer codes that the dictionary finds here."""
    single: Estimate
    """F1 of the best feature of each value, mean over values."""
    union: Estimate
    """F1 of the best union of features of each value."""
    union_features: float
    """Features in a union, mean over values."""
    null: float
    """`single` with shuffled labels."""
    always: float
    """F1 of a feature that always fires."""
    supervised: Estimate
    """F1 with which the supervised dictionary's codes tell the values."""
    code_length: float
    """Mean norm of the attribute's codes."""
    values_feature: int
    """The feature that fits a union of values best."""
    values_union: list[str]
    values_f1: float | None
    """Its F1 for them; None where none of them occurs in the test half."""
    best: list[FeatureForValue]
    """Of the values told best, a few."""


class TaskResult(Described):
    """Whether dictionaries are any good at a task, beside one that was made of what is known."""

    task: str
    model: str
    positions: list[str]
    attributes: list[Attribute]
    fit: int
    """Prompts that dictionaries are fitted to and features chosen on."""
    test: int
    """Prompts that everything is told of; they share no combination of values with the others."""
    left_out: dict[str, list[str]]
    """Words of the generator that are no single token."""
    preferred: Estimate
    """Share of test prompts whose answer is likelier than the wrong one."""
    answered: Estimate
    """Share whose answer is the likeliest of all tokens."""
    clean: Estimate
    """Mean logit difference, nats."""
    sections: list[Section]
    interpretations: list[Interpretation]
    seconds: float
    versions: dict[str, str]


class MethodSummary(Described):
    """The figures of one dictionary that its row in a table has."""

    name: str
    kind: MethodKind
    sufficiency: Estimate
    edits: Estimate | None
    """Accuracy of edits with the fewest features, of the attribute whose counterfactuals change the
    answer most often."""


class TaskSummary(Described):
    """A task run in a line."""

    task: str
    model: str
    sites: list[str]
    positions: list[str]
    test: int
    clean: Estimate
    edited: str | None
    """The attribute whose edits are told."""
    methods: list[MethodSummary]
    """At the last section: of several sites, all of them at once."""


class _Stored(Described):
    id: uuid.UUID
    """That of the run which made it."""
    saes: list[str]
    """Names of the SAEs that were tried and are still there."""
    created_at: dt.datetime


class TaskRow(TaskSummary, _Stored):
    """One of several."""


class TaskView(TaskResult, _Stored):
    """What a task run found."""


def summary_of(result: TaskResult) -> TaskSummary:
    """The figures of a result that a list shows."""
    section = result.sections[-1]
    floor = min(
        (each for each in section.floors if each.untouched.value is not None),
        key=lambda each: each.untouched.value or 0.0,
        default=None,
    )
    edited = None if floor is None else floor.attribute
    return TaskSummary(
        task=result.task,
        model=result.model,
        sites=section.sites,
        positions=result.positions,
        test=result.test,
        clean=result.clean,
        edited=edited,
        methods=[
            MethodSummary(
                name=each.name,
                kind=each.kind,
                sufficiency=each.approximation.sufficiency,
                edits=next((c.accuracy for c in each.control if c.attribute == edited), None),
            )
            for each in section.methods
        ],
    )
