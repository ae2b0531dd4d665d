"""A feature circuit with all that is said of it, to look at and to keep.  No torch."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.graphs.traced import KeptGraph
from monosemy.specs.feature_circuits import FeatureCircuitSpec, FeatureCircuitSummary
from monosemy.specs.rest.circuits import WithInterval


@dataclass(frozen=True, kw_only=True, repr=False)
class FoundFeatureCircuit(KeptGraph):
    """What a run of kind ``feature_circuit`` makes."""

    spec: FeatureCircuitSpec
    circuit: FeatureCircuitSummary

    def _facts(self) -> list[tuple[str, str]]:
        circuit, facts = self.circuit, super()._facts()
        facts += [
            ("pairs", f"{circuit.pairs}, and {circuit.held_out} left out"),
            ("metric, clean and patch", f"{_told(circuit.clean)}, {_told(circuit.patch)}"),
        ]
        facts += [
            (
                each.site,
                f"features {each.features:+.3f}, error {each.error:+.3f} of {each.cut:+.3f};"
                f" {each.kept} of {each.active} features kept",
            )
            for each in circuit.sites
        ]
        if circuit.tokens is not None:
            own = circuit.tokens
            said = f"{own.effect:+.3f} of {own.cut:+.3f}, {own.residual:+.3f} missed"
            facts.append(("the prompt's tokens", said))
        if circuit.exact is not None and circuit.exact.correlation is not None:
            said = f"{_told(circuit.exact.correlation)}, n = {circuit.exact.n}"
            facts.append(("correlation with patching each feature", said))
        facts += [
            (
                f"faithfulness of {each.nodes} features",
                f"{_told(each.with_errors)}, without errors {_told(each.without_errors)}",
            )
            for each in circuit.check.curve[-1:]
        ]
        return facts


def _told(figure: WithInterval) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
