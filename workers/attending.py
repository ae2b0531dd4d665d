"""Where features of an attention-output SAE read from on a text, on a warm host model."""

from __future__ import annotations

from collections.abc import Sequence

from monosemy.attribution.lens import Placed, PromptTokens, look
from monosemy.errors import DataError
from monosemy.figures import plural
from monosemy.specs.inference.attention import AttentionAnswer, AttentionCall
from workers.prompts import Prompt
from workers.reading import WarmSae
from workers.warm_host import WarmHost


def attended(
    host: WarmHost, prompt: Prompt, saes: Sequence[WarmSae], call: AttentionCall
) -> AttentionAnswer:
    """``saes`` are that of the call and those that attributions go through, in its order.

    One turn on the host's thread.  Raises ``DataError`` for a text that is too long, and as
    ``lens.look`` does.
    """
    ids, skip = host.words.row(prompt, saes[0].prepend_bos)
    room = host.longest - skip
    if len(ids) - skip > room:
        raise DataError(
            f"The text has {plural(len(ids) - skip, 'token')}; 2 to {room} can be read."
        )
    tokens = PromptTokens(ids, skip, host.words.pieces(ids))
    places = [call.sae, *call.through]
    placed = [Placed(warm.sae, place.site) for warm, place in zip(saes, places, strict=True)]
    return host.turn(lambda: look(host.host, tokens, placed[0], placed[1:], call))
