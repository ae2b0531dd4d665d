"""A feature circuit and its figures, to look at and to keep.  No torch."""

from __future__ import annotations

from dataclasses import dataclass

from monosemy.graphs.traced import KeptGraph
from monosemy.specs.feature_circuits import FeatureCircuitSpec, FeatureCircuitSummary
from monosemy.specs.rest.circuits import WithInterval


@dataclass(frozen=True, kw_only=True, repr=False)
class KeptFeatureCircuit(KeptGraph):
    """What a run of kind ``feature_circuit`` makes."""

    spec: FeatureCircuitSpec
    circuit: FeatureCircuitSummary

    def _facts(self) -> list[tuple[str, str]]:
        circuit, facts = self.circuit, super()._facts()
        facts += [
            ("pairs", f"{circuit.pairs}, and {circuit.held_out} left out"),
            (
                "metric, clean and patch",
                f"{_with_interval(circuit.clean)}, {_with_interval(circuit.patch)}",
            ),
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
            carried = f"{own.effect:+.3f} of {own.cut:+.3f}, {own.residual:+.3f} missed"
            facts.append(("the prompt's tokens", carried))
        if circuit.exact is not None and circuit.exact.correlation is not None:
            correlation = f"{_with_interval(circuit.exact.correlation)}, n = {circuit.exact.n}"
            facts.append(("correlation with patching each feature", correlation))
        facts += [
            (
                f"faithfulness of {each.nodes} features",
                f"{_with_interval(each.with_errors)},"
                f" without errors {_with_interval(each.without_errors)}",
            )
            for each in circuit.check.curve[-1:]
        ]
        return facts


def _with_interval(figure: WithInterval) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
