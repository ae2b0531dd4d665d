"""A whole task: the supervised dictionary, SAEs and baselines through all three tests."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from monosemy.circuits.supervised.coders import Coder, pca_coder, random_coder, sae_coder
from monosemy.circuits.supervised.dictionary import Method as Fit
from monosemy.circuits.supervised.dictionary import SupervisedDictionary
from monosemy.circuits.supervised.estimates import Estimates
from monosemy.circuits.supervised.interpretation import interpret
from monosemy.circuits.supervised.nodes import Nodes, Rows, answer, read
from monosemy.circuits.supervised.prompts import END, labelled_task
from monosemy.circuits.supervised.sections import (
    Edits,
    Ground,
    Method,
    Place,
    SectionTests,
    forwards,
)
from monosemy.circuits.supervised.task import LabelledTask, Pair
from monosemy.data.tasks.examples import Example
from monosemy.errors import DataError
from monosemy.models.host import HostModel
from monosemy.progress import SILENT, Reporter
from monosemy.saes.base import SAE
from monosemy.specs import TaskRun
from monosemy.specs.rest.tasks import (
    Attribute,
    Interpretation,
    MethodKind,
    Section,
    TaskResult,
)
from monosemy.specs.tasks import IndirectObjectPrompts
from monosemy.versions import versions

_FITS: tuple[tuple[Fit, str], ...] = (("mean", "supervised"), ("mse", "supervised, least squares"))


@dataclass(frozen=True)
class TaskSae:
    """An SAE that is tried."""

    name: str
    reference: str
    """What results call it by: its id."""
    site: str
    sae: SAE
    baseline: SAE | None = None
    """Its frozen-decoder baseline."""


def evaluate_task(
    host: HostModel, saes: Sequence[TaskSae], spec: TaskRun, reporter: Reporter = SILENT
) -> TaskResult:
    """Runs a task on a host model.

    Stages ``activations`` and ``answers`` (in prompts read) and ``features`` (in attributes of
    nodes of dictionaries).  Raises ``DataError`` for prompts, positions, sites and SAEs that cannot
    be used, and for a host model without logits.
    """
    host.need_logits()
    return _Evaluation(host, saes, spec, reporter).result()


class _Evaluation:
    def __init__(
        self, host: HostModel, saes: Sequence[TaskSae], spec: TaskRun, reporter: Reporter
    ) -> None:
        self.started = time.monotonic()
        self.host, self.saes, self.spec, self.reporter = host, saes, spec, reporter
        sites = spec.sites or list(dict.fromkeys(each.site for each in saes))
        for each in saes:
            if each.site not in sites:
                raise DataError(
                    f"The SAE '{each.name}' is of {each.site}, which is not among the sites.",
                    "Add the site, or leave sites out.",
                )
        for site in sites:
            host.site_width(site)  # raises
        self.task = labelled_task(
            spec.prompts,
            host.tokenizer,
            spec.attributes,
            spec.test_share,
            spec.seed,
            spec.pairs,
        )
        self.nodes = Nodes(tuple(sites), _positions(spec, self.task))
        self.estimates = Estimates(spec.resamples, spec.seed)
        self.places: list[Place] = [
            (site, p) for site in sites for p in range(len(self.nodes.positions))
        ]
        self._read()
        self._fit()

    # ------------------------------------------------------------------ activations
    def _read(self) -> None:
        task = self.task
        fit = self._rows(task.fit)
        every = (*task.fit, *task.test, *(p.target for _, pairs in self._pairs() for p in pairs))
        answers = {token for each in every for token in (*each.right, *each.wrong)}
        self.rows = self._rows(task.test, answers)
        targets = {name: self._rows([p.target for p in pairs]) for name, pairs in self._pairs()}
        total = len(fit) + 2 * len(self.rows) + sum(map(len, targets.values()))
        with self.reporter.stage("activations", total, "prompts") as stage:
            self.fit_acts = read(self.host, fit, self.nodes, stage.advance)
            self.acts = read(self.host, self.rows, self.nodes, stage.advance)
            self.target_acts = {
                name: read(self.host, rows, self.nodes, stage.advance)
                for name, rows in targets.items()
            }
            self.clean = answer(self.host, self.rows, stage.advance)
        self.fit_codes = self._codes(task.fit)
        self.codes = self._codes(task.test)

    def _pairs(self) -> list[tuple[str, tuple[Pair, ...]]]:
        return [(name, pairs) for name, pairs in self.task.pairs.items() if pairs]

    def _rows(self, examples: Sequence[Example], answers: Collection[int] = ()) -> Rows:
        positions, bos = self.nodes.positions, self.spec.prepend_bos
        return Rows(self.host, examples, positions, bos, answers)

    def _codes(self, examples: Sequence[Example]) -> torch.Tensor:
        return torch.tensor([self.task.values.codes(each) for each in examples])

    # ------------------------------------------------------------------ dictionaries
    def _fit(self) -> None:
        values = self.task.values
        self.supervised: dict[Fit, dict[Place, SupervisedDictionary]] = {
            fit: {
                (site, p): SupervisedDictionary.fit(
                    self.fit_acts[site][:, p], self.fit_codes, values, fit
                )
                for site, p in self.places
            }
            for fit, _ in _FITS
        }
        self.means = {at: each.mean_D for at, each in self.supervised["mean"].items()}
        self.coded: dict[str, list[Method]] = {
            site: self._coders(site) for site in self.nodes.sites
        }

    def _coders(self, site: str) -> list[Method]:
        """SAEs, their frozen twins, and PCA and random directions at each L0 that SAEs have."""
        made, sizes = [], []
        for each in self.saes:
            if each.site != site:
                continue
            coder = sae_coder(each.sae)
            made.append(self._method(each.name, "sae", site, coder, each.reference))
            sizes.append((self._l0(site, coder), each.sae.d_sae))
            if each.baseline is not None:
                name = f"{each.name}, frozen decoder"
                twin = sae_coder(each.baseline)
                made.append(self._method(name, "frozen", site, twin, each.reference))
        for l0, count in _distinct(sizes or [(self.spec.l0, 2 * self.host.site_width(site))]):
            pca, random = {}, {}
            for number, at in enumerate(self._at(site)):
                acts_ND = self.fit_acts[site][:, at[1]]
                pca[at] = pca_coder(acts_ND, l0)
                random[at] = random_coder(self.means[at], count, l0, self.spec.seed + number)
            made.append(Method(f"PCA, {l0} components", "pca", None, pca))
            made.append(Method(f"random directions, {l0} active", "random", None, random))
        return made

    def _method(
        self, name: str, kind: MethodKind, site: str, coder: Coder, reference: str
    ) -> Method:
        return Method(name, kind, reference, dict.fromkeys(self._at(site), coder))

    def _at(self, *sites: str) -> list[Place]:
        return [at for at in self.places if at[0] in sites]

    def _l0(self, site: str, coder: Coder) -> int:
        active = coder.encode(self.fit_acts[site].flatten(0, 1)).l0().float().mean()
        return max(round(float(active)), 1)

    # ------------------------------------------------------------------ results
    def result(self) -> TaskResult:
        """All tests."""
        task, clean = self.task, self.clean
        answers = self.rows.answers_N2[:, 0].numpy()
        return TaskResult(
            task=self.spec.prompts.task,
            model=self.host.name,
            positions=list(self.nodes.positions),
            attributes=[
                Attribute(name=name, values=list(known), pairs=len(task.pairs[name]))
                for name, known in task.values.of.items()
            ],
            fit=len(task.fit),
            test=len(task.test),
            left_out={name: list(words) for name, words in task.left_out.items() if words},
            preferred=self.estimates.share(clean.difference > 0),
            answered=self.estimates.share(clean.first == answers),
            clean=self.estimates.mean(clean.difference),
            sections=self._sections(),
            interpretations=self._interpretations(),
            seconds=round(time.monotonic() - self.started, 1),
            versions=versions("scipy"),
        )

    def _sections(self) -> list[Section]:
        groups: list[tuple[str, ...]] = [(site,) for site in self.nodes.sites]
        if len(self.nodes.sites) > 1:
            groups.append(self.nodes.sites)
        planned = [(sites, self._methods(sites)) for sites in groups]
        pairs = [len(each) for _, each in self._pairs()]
        total = sum(
            forwards(methods, len(self.rows), pairs, len(self.spec.features))
            for _, methods in planned
        )
        sections = []
        with self.reporter.stage("answers", total, "prompts") as stage:
            for sites, methods in planned:
                supervised = self.supervised["mean"]
                ground = self._ground()
                tests = SectionTests(ground, self.nodes.at(*sites), supervised, stage.advance)
                sections.append(
                    Section(
                        sites=list(sites),
                        mean_ablated=tests.mean_ablated,
                        floors=tests.floors(),
                        methods=[tests.result(method) for method in methods],
                    )
                )
        return sections

    def _methods(self, sites: tuple[str, ...]) -> list[Method]:
        wanted = set(self._at(*sites))
        supervised = [
            Method(name, "supervised", supervised={at: self.supervised[fit][at] for at in wanted})
            for fit, name in _FITS
        ]
        if len(sites) == 1:
            return supervised + self.coded[sites[0]]
        return supervised + _joined([self.coded[site] for site in sites])

    def _ground(self) -> Ground:
        edits = []
        for name, pairs in self._pairs():
            sources = [pair.source for pair in pairs]
            column = self.task.values.names.index(name)
            new = self._codes([pair.target for pair in pairs])[:, column]
            acts = self.target_acts[name]
            edits.append(Edits(name, sources, acts, self.codes[sources, column], new))
        return Ground(
            self.host,
            self.rows,
            self.acts,
            self.codes,
            self.clean,
            edits,
            self.means,
            self.estimates,
            self.spec.features,
            self.spec.seed,
        )

    def _interpretations(self) -> list[Interpretation]:
        found: list[Interpretation] = []
        total = sum(map(len, self.coded.values())) * len(self.nodes.positions)
        with self.reporter.stage(
            "features", total * len(self.task.values.names), "attributes"
        ) as s:
            for site, p in self.places:
                for method in self.coded[site]:
                    found += interpret(
                        method,
                        (site, p),
                        self.nodes.positions[p],
                        self.supervised["mean"][site, p],
                        (self.fit_acts[site][:, p], self.fit_codes),
                        (self.acts[site][:, p], self.codes),
                        self.spec.resamples,
                        self.spec.seed,
                        s.advance,
                    )
        return found


def _positions(spec: TaskRun, task: LabelledTask) -> tuple[str, ...]:
    if spec.positions is not None:
        return tuple(spec.positions)
    if isinstance(spec.prompts, IndirectObjectPrompts):
        return ("S2", END)
    return tuple(task.test[0].places)


def _distinct(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(L0, latents), of each L0 the widest."""
    widest: dict[int, int] = {}
    for l0, count in sizes:
        widest[l0] = max(count, widest.get(l0, 0))
    return sorted(widest.items())


def _joined(by_site: Sequence[Sequence[Method]]) -> list[Method]:
    """Methods of all sites at once: of each kind that every site has exactly one of."""
    joined = []
    kinds: tuple[MethodKind, ...] = ("sae", "frozen", "pca", "random")
    for kind in kinds:
        of_kind = [[each for each in methods if each.kind == kind] for methods in by_site]
        if any(len(each) != 1 for each in of_kind):
            continue
        coders: dict[Place, Coder] = {}
        for (each,) in of_kind:
            coders.update(each.coders)
        names = dict.fromkeys(each.name for (each,) in of_kind)
        joined.append(Method(" with ".join(names), kind, None, coders))
    return joined
