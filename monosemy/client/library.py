"""Host models, SAEs and their features."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monosemy import arguments
from monosemy.client.errors import NotMonosemy
from monosemy.client.listing import listed
from monosemy.client.transport import Transport, segment
from monosemy.specs import parse_part
from monosemy.specs.latent_classes import LatentClassFilter
from monosemy.specs.rest.attention import AttentionView, FeatureFamily, SurveyedFeature
from monosemy.specs.rest.comparisons import FeatureLinks
from monosemy.specs.rest.embeds import EmbedAddress, NewEmbed
from monosemy.specs.rest.features import (
    ExamplePage,
    ExampleView,
    FeatureColumn,
    FeaturePage,
    FeaturesAround,
    FeatureSort,
    FeatureSummary,
    SortOrder,
)
from monosemy.specs.rest.layouts import LayoutView
from monosemy.specs.rest.models import ModelSummary
from monosemy.specs.rest.reports import ReportSummary
from monosemy.specs.rest.runs import RunTable
from monosemy.specs.rest.saes import Distribution, SaeDetail, SaeSummary
from monosemy.specs.rest.uploads import Upload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SaeReference = uuid.UUID | str | SaeSummary
"""Id or unique name of an SAE, or one that was answered before."""


class Models:
    """``client.models``; raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(self, limit: int | None = None) -> Iterator[ModelSummary]:
        """Newest first."""
        return listed(self._http, ModelSummary, "/models", limit)


class SAEs:
    """``client.saes``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self,
        *,
        model: str | None = None,
        site: str | None = None,
        counts: bool = False,
        limit: int | None = None,
    ) -> Iterator[SaeSummary]:
        """Newest first; with ``counts`` each says how many features are indexed, explained and
        scored."""
        asked = {"model": model, "site": site, "counts": counts or None}
        return listed(self._http, SaeSummary, "/saes", limit, **asked)

    def get(self, sae: SaeReference) -> SaeDetail:
        """Configuration, metrics, provenance, and how many features are indexed, explained,
        scored."""
        return self._http.call(SaeDetail, "GET", sae_path(sae))

    def distribution(self, sae: SaeReference) -> Distribution:
        """Histograms of how often its features fire and of how strongly at most."""
        return self._http.call(Distribution, "GET", f"{sae_path(sae)}/distribution")

    def layout(self, sae: SaeReference) -> LayoutView:
        """How its decoder rows were laid out in two dimensions, and how faithful that is; the
        places are the columns ``layout_x`` and ``layout_y`` of ``client.features.columns``."""
        return self._http.call(LayoutView, "GET", f"{sae_path(sae)}/layout")

    def attention(self, sae: SaeReference) -> AttentionView:
        """The heads behind an SAE at ``attn.hook_z``: scores, features, and whether those are
        alike; a run of kind ``attention`` finds it out."""
        return self._http.call(AttentionView, "GET", f"{sae_path(sae)}/attention")

    def report_summary(self, sae: SaeReference) -> ReportSummary:
        """How many features each scorer tells apart from another feature's explanation."""
        return self._http.call(ReportSummary, "GET", f"{sae_path(sae)}/report/summary")

    def report(self, sae: SaeReference, *, reference: SaeReference | None = None) -> dict[str, Any]:
        """Of every scorer the distribution beside its baselines, medians, intervals, strata and
        cost; ``reference``: an SAE to compare with.  ``client.exports.report`` has it drawn."""
        other = None if reference is None else sae_name(reference)
        answer: dict[str, Any] = self._http.get(f"{sae_path(sae)}/report", reference=other)
        return answer

    def report_beside(self, sae: SaeReference, others: Sequence[SaeReference]) -> dict[str, Any]:
        """Its scores held against those of one to three other SAEs or bases: of every scorer that
        all have the distributions, medians, and the difference from each other one in numbers and
        words.  ``client.exports.report_beside`` has it drawn."""
        path = f"{sae_path(sae)}/report/beside"
        answer: dict[str, Any] = self._http.get(path, other=sae_names("others", others))
        return answer

    def upload(self, folder: str | Path) -> Upload:
        """Sends the files of an SAE folder; ``source`` of the answer is that of a run of kind
        ``import``."""
        root = Path(folder)
        files = [(str(file.relative_to(root)), file) for file in sorted(root.rglob("*"))]
        sent = self._http.upload("/saes/uploads", [each for each in files if each[1].is_file()])
        return Upload.model_validate(sent)

    def delete(self, sae: SaeReference) -> None:
        """With its features, their explanations and scores.  For administrators."""
        self._http.delete(sae_path(sae))


class Features:
    """``client.features``; every method raises ``ApiError``."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def list(
        self,
        sae: SaeReference,
        *,
        sort: FeatureSort = "index",
        order: SortOrder = "asc",
        scorer: str | None = None,
        min_density: float | None = None,
        max_density: float | None = None,
        has_explanation: bool | None = None,
        q: str | None = None,
        tag: str | None = None,
        head: int | None = None,
        family: FeatureFamily | None = None,
        latent_class: LatentClassFilter | None = None,
        genuine: bool | None = None,
        indices: Sequence[int] | None = None,
        limit: int | None = None,
    ) -> Iterator[FeatureSummary]:
        """Each with its evidence label, its best explanation and that one's score; ``q`` are words
        in either; ``indices``: only these features, 200 at most; ``head`` and ``family`` are those
        of a survey of attention heads; ``latent_class`` and ``genuine`` what a crosscoder's
        evaluation has measured."""
        return listed(
            self._http,
            FeatureSummary,
            f"{sae_path(sae)}/features",
            limit,
            sort=sort,
            order=order,
            scorer=scorer,
            min_density=min_density,
            max_density=max_density,
            has_explanation=has_explanation,
            q=q,
            tag=tag,
            head=head,
            family=family,
            latent_class=latent_class,
            genuine=genuine,
            index=None if indices is None else arguments.features("indices", indices) or None,
        )

    def get(self, sae: SaeReference, index: int) -> FeaturePage:
        """Statistics, evidence, explanations with scores, examples, neighbours."""
        return self._http.call(FeaturePage, "GET", feature_path(sae, index))

    def attention(self, sae: SaeReference, index: int) -> SurveyedFeature:
        """Head and family of a feature, with the figures behind them."""
        return self._http.call(SurveyedFeature, "GET", f"{feature_path(sae, index)}/attention")

    def columns(
        self, sae: SaeReference, names: Sequence[FeatureColumn], **filters: Any
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Numbers of all features at once, ``[d_sae]`` by name, NaN where one is not known;
        ``scorer`` says whose scores, the filters of ``list`` what ``matches``."""
        import numpy as np  # the command line does without

        asked = arguments.texts("names", names, "a list of columns")
        path = f"{sae_path(sae)}/columns"
        sent, headers = self._http.binary(path, column=asked, **filters)
        given = headers.get("X-Columns", "").split(",")
        if given != asked or len(sent) % (4 * len(given)):
            raise NotMonosemy(f"{self._http.url} answers, but not with these columns.")
        table = np.frombuffer(sent, "<f4").astype(np.float32).reshape(len(given), -1)
        return dict(zip(given, table, strict=True))

    def around(
        self, sae: SaeReference, index: int, *, list: str | None = None, **listing: Any
    ) -> FeaturesAround:
        """The features before and after it in a list, or in the listing that ``list`` gives with
        the same ``sort``, ``order`` and filters."""
        path = f"{feature_path(sae, index)}/around"
        return self._http.call(FeaturesAround, "GET", path, list=list, **listing)

    def examples(
        self,
        sae: SaeReference,
        index: int,
        *,
        group: str | None = None,
        context: int | None = None,
        limit: int | None = None,
    ) -> Iterator[ExampleView]:
        """The strongest first, then the quantiles from weakest to strongest; with at least
        ``context`` tokens on either side."""
        path = f"{feature_path(sae, index)}/examples"
        return listed(self._http, ExampleView, path, limit, group=group, context=context)

    def groups(self, sae: SaeReference, index: int) -> dict[str, int]:
        """How many examples each group has."""
        path = f"{feature_path(sae, index)}/examples"
        return self._http.call(ExamplePage, "GET", path, limit=1).groups

    def links(self, sae: SaeReference, index: int) -> FeatureLinks:
        """Features that have to do with it, in its SAE and in those compared with it."""
        return self._http.call(FeatureLinks, "GET", f"{feature_path(sae, index)}/links")

    def embed(self, sae: SaeReference, index: int, **wanted: Any) -> EmbedAddress:
        """Where another page can show the feature in a frame; ``wanted``: fields of ``NewEmbed``,
        such as ``parts``, ``n``, ``hours``."""
        body = parse_part(NewEmbed, wanted)
        return self._http.call(EmbedAddress, "POST", f"{feature_path(sae, index)}/embed", body)

    def under_way(self, sae: SaeReference, index: int) -> RunTable:
        """Runs that explain or score it and have not ended, the oldest first."""
        return self._http.call(RunTable, "GET", f"{feature_path(sae, index)}/runs")


def sae_name(sae: SaeReference) -> str:
    """As a query or a body names it."""
    return str(sae.id if isinstance(sae, SaeSummary) else sae)


def sae_names(argument: str, saes: Sequence[SaeReference]) -> list[str]:
    """As a query names several; ``SpecError`` names ``argument``."""
    return [sae_name(each) for each in arguments.several(argument, saes, "a list of SAEs")]


def sae_path(sae: SaeReference) -> str:
    return f"/saes/{segment(sae_name(sae))}"


def feature_path(sae: SaeReference, index: int) -> str:
    return f"{sae_path(sae)}/features/{index}"
