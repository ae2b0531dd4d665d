"""How far a feature circuit is to be believed, in words, and its curves."""

from __future__ import annotations

from markupsafe import Markup

from monosemy.circuit_plots import Reading, interval_curves
from monosemy.figures import fixed, percent
from monosemy.specs.feature_circuits import CircuitAtNodes, FeatureCircuitSummary
from monosemy.specs.rest.circuits import WithInterval
from service.pages.graph_words import Belief

_MISSED = 0.05
"""Share of the difference that effects of a site may miss."""
_UNEXPLAINED = 0.2
_HALF = 0.5


def belief_of(circuit: FeatureCircuitSummary) -> Belief:
    """What is said at the top of its check."""
    doubts = [*_of_effects(circuit), *_of_circuit(circuit)]
    says = (
        "Do not rely on this circuit without a look at the check:"
        if doubts
        else "Effects add up, they agree with patching features one at a time, and on pairs left"
        " out the circuit does what the host does, beyond what random ones do."
    )
    return Belief(doubts, says)


def _of_effects(circuit: FeatureCircuitSummary) -> list[str]:
    total, doubts = abs(circuit.clean.value - circuit.patch.value), []
    missed = [(f"at {each.site}", each.residual) for each in circuit.sites]
    if circuit.tokens is not None:
        missed.insert(0, ("of the prompt's tokens", circuit.tokens.residual))
    for whose, residual in missed:
        if abs(residual) > _MISSED * total:
            share = percent(abs(residual) / total) if total else "all"
            doubts.append(f"Effects {whose} miss {share} of the difference.")
    if circuit.unexplained > _UNEXPLAINED:
        doubts.append(f"Edges miss {percent(circuit.unexplained)} of the effects they lead to.")
    if circuit.exact is None:
        doubts.append("No feature was patched by itself.")
    elif circuit.exact.correlation is None or circuit.exact.correlation.low <= 0:
        doubts.append(
            "Effects are not told apart from chance by those of patching one feature at a time"
            f" (n = {circuit.exact.n})."
        )
    return doubts


def _of_circuit(circuit: FeatureCircuitSummary) -> list[str]:
    curve = circuit.check.curve
    if len(curve) < 2:
        return ["There is no circuit to be checked on pairs left out."]
    none, whole, doubts = curve[0], curve[-1], []
    if none.with_errors.value >= _HALF:
        doubts.append(
            f"Errors of the SAEs alone keep {fixed(none.with_errors.value)} of what the host does:"
            " the features are hardly needed."
        )
    beside = whole.random_with_errors
    if beside is not None and whole.with_errors.low <= beside.high:
        doubts.append(
            f"The circuit keeps {fixed(whole.with_errors.value)}, which is not told apart from"
            f" random circuits of as many features (up to {fixed(beside.high)})."
        )
    if whole.without_errors.value < _HALF:
        doubts.append(
            f"Without the SAEs' errors it keeps {fixed(whole.without_errors.value)} alone."
        )
    if whole.complement.value > _HALF:
        doubts.append(f"Without it {fixed(whole.complement.value)} is left: others do the same.")
    return doubts


def curves_of(circuit: FeatureCircuitSummary) -> list[tuple[str, Markup]]:
    """(what it shows, drawing): faithfulness by size, with errors and without."""
    sizes = [each for each in circuit.check.curve if each.nodes > 0]
    if not sizes:
        return []
    pairs = (
        ("Errors as they come", "with_errors"),
        ("Errors ablated", "without_errors"),
    )
    return [(says, _curve(sizes, name, says)) for says, name in pairs]


def _curve(sizes: list[CircuitAtNodes], name: str, says: str) -> Markup:
    series = [("own", "largest effects", _readings(sizes, name))]
    beside = _readings(sizes, f"random_{name}")
    if beside:
        series.append(("null", "random circuits", beside))
    label = f"{says}: faithfulness of circuits of {sizes[0].nodes} to {sizes[-1].nodes} features"
    return Markup(
        interval_curves(series, [("host", 1.0)], f"{label}; the table has them", "features")
    )


def _readings(sizes: list[CircuitAtNodes], name: str) -> list[Reading]:
    readings = []
    for each in sizes:
        figure: WithInterval | None = getattr(each, name)
        if figure is not None:
            readings.append(Reading(each.nodes, figure.value, figure.low, figure.high))
    return readings
