"""Features in one file of HTML: style inlined, no script, nothing loaded, provenance in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from markupsafe import Markup
from sqlalchemy import Engine

from monosemy.specs.rest.features import FeaturePage
from service.database.session import transaction
from service.features.repository import find_feature
from service.features.service import page_of
from service.models.tokens import TokenTables
from service.pages.feature.examples import Drawing
from service.pages.feature.shown import FeatureShown, shown_feature
from service.pages.render import whole
from service.pages.static import static_files

MOST = 500
"""Features in one file."""
_BRIEF_EXAMPLES = 5
"""Examples of each of several features."""
_STYLES = ("base.css", "pages/feature.css")

Place = tuple[str, int]
"""SAE and feature."""


@dataclass(frozen=True)
class FileHead:
    """What a file says of itself."""

    title: str
    about: str
    """What it has, and what it leaves out."""
    address: str
    """Where the same is looked at live."""


@cache
def style() -> Markup:
    """Of the explorer's pages; made here, so that it is no stranger's text."""
    return Markup("".join(static_files()[name].decode() for name in _STYLES))


@cache
def policy() -> str:
    """Content-Security-Policy of a file: its own style, no script, nothing loaded."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"


def feature_file(page: FeaturePage, head: FileHead) -> str:
    """One feature with all that its page shows."""
    return "".join(_file(head, [partial(_section, shown_feature(page, Drawing()), True)]))


def several(
    engine: Engine, tables: TokenTables, head: FileHead, places: Sequence[Place]
) -> Iterator[str]:
    """At most ``MOST`` features, each in short, piece by piece; those that are not indexed, or gone
    meanwhile, are left out."""

    def section(place: Place) -> str:
        with transaction(engine) as session:
            found = find_feature(session, *place)
            if found is None or found.feature is None:
                return ""
            page = page_of(session, tables, found)
        short = page.model_copy(update={"examples": page.examples[:_BRIEF_EXAMPLES]})
        return _section(shown_feature(short, Drawing()), False)

    return _file(head, [partial(section, place) for place in places[:MOST]])


def _file(head: FileHead, sections: Sequence[Callable[[], str]]) -> Iterator[str]:
    # The sections stand between the two halves of one template.
    start, end = whole(
        "feature_file.html", {"head": head, "style": style(), "policy": policy()}
    ).split("<!-- sections -->")
    yield start
    for section in sections:
        yield section()
    yield end


def _section(shown: FeatureShown, full: bool) -> str:
    return whole("feature_section.html", {"shown": shown, "page": shown.page, "full": full})
