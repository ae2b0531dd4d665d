"""A feature circuit run, as the workers and the notebook both do it: SAEs in folders become a graph
that knows what it was made with."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.feature_circuits.kept_circuit import KeptFeatureCircuit
from monosemy.feature_circuits.run import make_feature_circuit
from monosemy.graph_stage import hosted_saes, with_origin
from monosemy.graphs.summary import summary_of
from monosemy.graphs.whole_influence import WholeInfluence
from monosemy.progress import SILENT, Reporter
from monosemy.run_hosts import HostLoader
from monosemy.sae_folder import NamedFolder
from monosemy.specs import FeatureCircuitRun
from monosemy.specs.feature_circuits import FeatureCircuitSpec


def find_feature_circuit_run(
    spec: FeatureCircuitRun,
    saes: Sequence[NamedFolder],
    load_host: HostLoader,
    reporter: Reporter = SILENT,
    allowed: int | None = None,
) -> KeptFeatureCircuit:
    """The feature circuit of a spec's pairs in ``saes``, whose places are the nodes' ``coder``.

    The host model is loaded in float32: effects are small differences.  Raises ``DataError`` as
    ``graph_stage.hosted_saes`` does, and as ``make_feature_circuit``.
    """
    host, hosted, stamps = hosted_saes(saes, load_host, dtype="float32")
    asked = FeatureCircuitSpec(
        **{name: getattr(spec, name) for name in FeatureCircuitSpec.model_fields}
    )
    names = [each.name for each in stamps]
    made = make_feature_circuit(host, hosted, names, asked, reporter, allowed)
    graph = with_origin(made.graph, host, stamps)
    return KeptFeatureCircuit(
        graph=graph,
        whole=WholeInfluence.of(graph),
        summary=summary_of(graph, graph, made.summary.forecast),
        prompt=made.prompt,
        model=saes[0].folder.spec.model.name,
        saes=stamps,
        spec=asked,
        circuit=made.summary,
    )
