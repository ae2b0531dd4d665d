"""``monosemy.plots`` for templates: what comes from there is escaped already."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from markupsafe import Markup

from monosemy import plots, svg

Asked = ParamSpec("Asked")


def _marked(plot: Callable[Asked, str]) -> Callable[Asked, Markup]:
    @functools.wraps(plot)
    def drawn(*values: Asked.args, **named: Asked.kwargs) -> Markup:
        return Markup(plot(*values, **named))

    return drawn


score_interval = _marked(plots.score_interval)
against_chance = _marked(plots.against_chance)
bars = _marked(plots.bars)
share_bar = _marked(plots.share_bar)
curves = _marked(plots.curves)
key = _marked(svg.key)
