"""The prompt of a stored graph, read by warm SAEs on a warm host model."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.graphs.prompt import ReplacedPrompt, read_prompt
from monosemy.graphs.replacement import ReplacementModel
from monosemy.specs.inference.graph_steering import GraphPrompt
from workers.reading import WarmSae
from workers.warm_host import WarmHost


def graph_prompt(host: WarmHost, saes: Sequence[WarmSae], call: GraphPrompt) -> ReplacedPrompt:
    """``saes`` are those of the call, in its order; within a turn on the host's thread.

    Raises ``DataError`` for a host model that is another than the graph's and a prompt that is too
    long, and as ``read_prompt`` does.
    """
    model = host.host
    if call.fingerprint is not None and call.fingerprint != model.fingerprint:
        raise DataError(
            f"The graph was traced in another {model.name} than is here now.", "Trace it again."
        )
    if len(call.ids) > host.longest:
        raise DataError(
            f"The prompt has {plural(len(call.ids), 'token')}; 2 to {host.longest} can be read."
        )
    coders = [each.hosted(model) for each in saes]
    return read_prompt(ReplacementModel(model, coders, call.whole_tokens), call.ids)
