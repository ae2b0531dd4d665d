"""Commands that make an SAE again, or take it elsewhere."""

from __future__ import annotations

import shlex

from monosemy.specs.rest.saes import SaeDetail


def commands(sae: SaeDetail) -> list[tuple[str, str]]:
    """(what for, command) to make it again, and to take it elsewhere."""
    found = []
    if sae.run_id is not None:
        found.append(("the run that made it", f"monosemy run show {sae.run_id}"))
    name = shlex.quote(sae.name)
    spec = sae.provenance.get("spec")
    if isinstance(spec, dict):
        found.append(
            (
                f"the same {'basis' if sae.basis else 'training'} again",
                f"monosemy sae show {name} --json | jq .provenance.spec > spec.json\n"
                "monosemy run submit spec.json --set name=again",
            )
        )
    found.append(("its weights, as SAELens reads them", f"monosemy sae export {name} ./sae"))
    return found
