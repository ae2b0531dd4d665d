"""Run specs that train SAEs: one, or many on the same batches."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from monosemy.figures import plural
from monosemy.specs.architectures import SAESpec, TopKSpec
from monosemy.specs.hooks import HOST, Hooks, ReadsAndWrites, checked_hooks, first_read
from monosemy.specs.layers import (
    LayeredPlaces,
    LayeredSite,
    Layers,
    at_layer,
    checked_layers,
    has_star,
)
from monosemy.specs.names import STORED, Name
from monosemy.specs.part import LARGE, Seed, Site, added_later
from monosemy.specs.parts import ModelSpec, OtherHost, TextSpec, TrainingSpec
from monosemy.specs.run import RunSpec, register_kind

Rate = Annotated[float, Field(gt=0, le=LARGE)]

MAX_SWEEP = 64
"""SAEs that one sweep may train."""


def set_names(name: str, count: int) -> list[str]:
    """What the sets of a run are called that is called ``name``: several get numbers."""
    return [name] if count == 1 else [f"{name}-{number}" for number in range(count)]


class StreamedRun(RunSpec):
    """Where activations come from."""

    name: Name | None = None
    """Name of the SAE; left out, one is built from model, site and size."""
    model: ModelSpec = ModelSpec()
    """The host model."""
    text: TextSpec = TextSpec()
    """What it reads."""


class TrainingRun(StreamedRun, ReadsAndWrites):
    """What it takes to train an SAE."""

    site: Site = "blocks.9.hook_resid_post"
    """Where it is hooked, in TransformerLens names."""
    hosts: list[OtherHost] | None = added_later(None, min_length=1, max_length=8)
    """Host models besides ``model``, whose sites are told by their roles."""
    sae: SAESpec = TopKSpec()
    """Architecture and size."""
    training: TrainingSpec = TrainingSpec()
    """Length, rates, buffer."""

    @model_validator(mode="after")
    def _sae_can_be_trained_so(self) -> Self:
        _check_training(self.sae, self.training)
        return self

    _site_of_reads = model_validator(mode="before")(first_read)

    @model_validator(mode="after")
    def _can_be_hooked(self, info: ValidationInfo) -> Self:
        if info.context != STORED:
            roles = [each.role for each in self.hosts or []]
            checked_hooks(self.reads or [self.site], self.writes, self.sae, roles=roles)
        return self

    @model_validator(mode="after")
    def _hosts_differ(self) -> Self:
        roles = [each.role for each in self.hosts or []]
        if HOST in roles or len(set(roles)) < len(roles):
            raise ValueError(f"hosts must have roles of their own, none of them '{HOST}'")
        if roles and self.training.devices > 1:
            raise ValueError("an SAE of several host models is trained on one device")
        return self

    @model_validator(mode="after")
    def _knows_its_places(self) -> Self:
        # The model is frozen for its users, not for what makes it whole.
        self.__dict__["sae"] = self.sae.at_places(self.hooks)
        return self

    @property
    def hooks(self) -> Hooks:
        """Where its SAE reads and writes."""
        target = getattr(self.sae, "target_site", None)
        return Hooks.at(self.reads or self.site, self.writes or target)


def _check_training(sae: SAESpec, training: TrainingSpec) -> None:
    """``ValueError`` unless the dictionary can be split and its dead latents resampled as asked."""
    parts = training.devices
    if training.resample_every is not None:
        sae.check_resampling()
        if parts > 1:
            raise ValueError("training.resample_every is for training on one device")
    if training.split == "batch" or parts == 1:
        return
    sae.check_split(parts)


@register_kind
class TrainRun(TrainingRun):
    """Train one SAE."""

    kind: Literal["train"] = "train"

    def trainings(self) -> list[TrainRun]:
        return [self]

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        """The run's own: a second attempt writes where the first one did."""
        return [run_id]

    def made_names(self) -> list[str]:
        return [] if self.name is None else [self.name]


@register_kind
class SweepRun(StreamedRun):
    """Train many SAEs on the same batches: every site with every SAE, rate and seed.

    The host model reads the text once for all of them.  The SAEs of a site in several layers
    (``blocks.*.mlp.hook_in``) are a *set*, which has a name and an order.
    """

    writes: LayeredPlaces | None = added_later(None)
    """The places that are reconstructed; None takes those that are read.  ``blocks.*.hook_mlp_out``
    is that of the layer that is read."""
    kind: Literal["sweep"] = "sweep"
    sites: list[LayeredSite] = Field(["blocks.9.hook_resid_post"], min_length=1, max_length=32)
    """Where the model is hooked, in TransformerLens names; ``blocks.*.mlp.hook_in`` is that site in
    each of ``layers``."""
    layers: Layers | None = added_later(None)
    """What ``*`` stands for, rising: a list, or ranges as ``0-29``.  Activations of a sweep over
    layers are not kept on disk unless ``training.cache_activations`` asks for it: they take two
    bytes for each token, site and dimension."""
    saes: list[SAESpec] = Field([TopKSpec()], min_length=1, max_length=MAX_SWEEP)
    """Architectures and sizes."""
    learning_rates: list[Rate] | None = Field(None, min_length=1, max_length=16)
    """Rates to try; None takes ``training.learning_rate``."""
    seeds: list[Seed] | None = Field(None, min_length=1, max_length=16)
    """Seeds of the initialisation; None takes ``training.seed``, which seeds the order of the
    tokens in any case."""
    training: TrainingSpec = TrainingSpec()
    """Length, batch, buffer: shared by all."""

    @model_validator(mode="before")
    @classmethod
    def _layers_stream(cls, data: Any) -> Any:
        sites = data.get("sites") if isinstance(data, dict) else None
        if not isinstance(sites, list) or not has_star([str(site) for site in sites]):
            return data
        training = data.get("training", {})
        if isinstance(training, TrainingSpec):
            training = training.model_dump(exclude_unset=True)
        if not isinstance(training, dict):
            return data  # which the field's own validation refuses
        return {**data, "training": {"cache_activations": False, **training}}

    @model_validator(mode="after")
    def _not_too_many(self) -> SweepRun:
        checked_layers(self.sites, self.writes, self.layers)
        count, most = len(self._hooked) * self._variants, max(MAX_SWEEP, len(self.layers or ()))
        if count > most:
            raise ValueError(f"a sweep of {plural(count, 'SAE')} is too large: at most {most}")
        for sae in self.saes:
            _check_training(sae, self.training)
            for site, writes in self._hooked:
                checked_hooks([site], writes, sae)
        return self

    @property
    def _hooked(self) -> list[tuple[str, list[str] | None]]:
        """Each place that is read, a site with a star once for each layer, and what is written."""
        return [
            (at_layer(site, layer), self.writes and [at_layer(each, layer) for each in self.writes])
            for site in self.sites
            for layer in ((self.layers or ()) if has_star([site]) else (0,))
        ]

    @property
    def _variants(self) -> int:
        """SAEs at each place."""
        return len(self.saes) * len(self.learning_rates or [0]) * len(self.seeds or [0])

    def members(self) -> list[TrainRun]:
        """One training spec per SAE, in the order sites (by layer), SAEs, rates, seeds."""
        shared = {"model": self.model, "text": self.text}
        settings = [
            {"learning_rate": rate, "seed": seed}
            for rate in self.learning_rates or [self.training.learning_rate]
            for seed in self.seeds or [self.training.seed]
        ]
        return [
            TrainRun(
                site=site,
                writes=writes,
                sae=sae,
                training=self.training.model_copy(update=each),
                **shared,
            )
            for site, writes in self._hooked
            for sae in self.saes
            for each in settings
        ]

    def sets(self) -> list[list[int]]:
        """The sets: of each, the places of its SAEs among ``members``, by layer.  One for each site
        with a star, SAE, rate and seed."""
        result, first, variants = [], 0, self._variants
        for site in self.sites:
            layers = len(self.layers or ()) if has_star([site]) else 1
            if has_star([site]):
                result += [
                    [first + layer * variants + variant for layer in range(layers)]
                    for variant in range(variants)
                ]
            first += layers * variants
        return result

    def trainings(self) -> list[TrainRun]:
        return self.members()

    def sae_ids(self, run_id: uuid.UUID) -> list[uuid.UUID]:
        """Made of the run's and of each SAE's place."""
        return [uuid.uuid5(run_id, str(place)) for place in range(len(self.members()))]

    def made_names(self) -> list[str]:
        if self.name is None:
            return []
        return [f"{self.name}-{place}" for place in range(len(self.members()))]

    def made_sets(self) -> list[str]:
        return [] if self.name is None else set_names(self.name, len(self.sets()))
