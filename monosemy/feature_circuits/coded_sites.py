"""Sites of a host whose activations are features and an error, and forwards with others put there.

At a site, ``value = features @ rows + bias + error``, exactly, whatever the SAE is worth.  What the
skip path of a transcoder writes is part of its error.  Tokens that an SAE does not read (a BOS, and
those beyond the norm that its training left out) are error alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from monosemy.errors import DataError
from monosemy.hosted_sae import HostedSAE
from monosemy.models import sites as kinds
from monosemy.models.hook_points import Edit, Editor
from monosemy.models.host import HostModel
from monosemy.models.sites import parse_site
from monosemy.saes.codes import Codes

STREAM = "blocks.0.hook_resid_pre"
"""What enters block 0: the prompt's own tokens."""


class Coded(Protocol):
    """Activations of n tokens at a site, as a coder has them."""

    def of(self, latents: Sequence[int]) -> Tensor:
        """``[n, len(latents)]``."""
        ...

    def written(self) -> Tensor:
        """``features @ rows + bias``, ``[n, width]``."""
        ...

    def active(self) -> Tensor:
        """Latents that are not 0 at some token, ascending."""
        ...


class Coder(Protocol):
    """What makes features of activations."""

    bias_D: Tensor
    """What is written where no latent is active."""

    def usable(self, read_RTD: Tensor) -> Tensor:
        """Tokens that it reads, bool ``[R, T]``."""
        ...

    def encode(self, read_ND: Tensor, own_ND: Tensor, usable_N: Tensor) -> Coded:
        """``own_ND``: what is there, where it writes."""
        ...

    def rows(self, latents: Sequence[int]) -> Tensor:
        """``[n, width]``."""
        ...


@dataclass(frozen=True)
class _SaeCodes:
    coder: SaeCoder
    codes: Codes

    def of(self, latents: Sequence[int]) -> Tensor:
        if not latents:
            return torch.zeros(len(self.codes.values), 0)
        return self.codes.of(latents).cpu()

    def written(self) -> Tensor:
        return self.coder.sae.decode_without_bias(self.codes).cpu() + self.coder.bias_D

    def active(self) -> Tensor:
        return self.codes.indices[self.codes.values > 0].unique().cpu()


class SaeCoder:
    """The features of an SAE that reads and writes one site each.  What it takes and gives is on
    the CPU, wherever the SAE is."""

    def __init__(self, hosted: HostedSAE) -> None:
        self.hosted, self.sae = hosted, hosted.sae
        self.bias_D = self.sae.b_dec.detach().cpu()
        self.sae.encoder_rows(self._numbers([0]))  # raises where there are none

    def usable(self, read_RTD: Tensor) -> Tensor:
        return self.hosted.usable([read_RTD])

    @torch.no_grad()
    def encode(self, read_ND: Tensor, own_ND: Tensor, usable_N: Tensor) -> Coded:
        del own_ND
        there_ND = torch.where(usable_N[:, None], read_ND, 0.0).to(self.sae.device)
        codes = self.sae.encode(there_ND)
        values = codes.values * usable_N[:, None].to(codes.values)
        return _SaeCodes(self, Codes(codes.indices, values))

    def rows(self, latents: Sequence[int]) -> Tensor:
        return self.sae.decoder_rows(self._numbers(latents)).float().cpu()

    def pre_activations(self, read_ND: Tensor, latents: Sequence[int]) -> Tensor:
        """``[N, n]``, with the gradient of what is read."""
        rows_FD, bias_F = self.sae.encoder_rows(self._numbers(latents))
        return (self.sae.centre(read_ND.to(self.sae.device)) @ rows_FD.T + bias_F).cpu()

    def _numbers(self, latents: Sequence[int]) -> Tensor:
        return torch.tensor(latents, dtype=torch.long, device=self.sae.device)


@dataclass(frozen=True)
class _Dimensions:
    value_ND: Tensor

    def of(self, latents: Sequence[int]) -> Tensor:
        return self.value_ND[:, list(latents)]

    def written(self) -> Tensor:
        return self.value_ND

    def active(self) -> Tensor:
        return torch.arange(self.value_ND.shape[1])


class DimensionCoder:
    """The dimensions of what is there as features, at the tokens that an SAE of the site reads: the
    baseline without it."""

    def __init__(self, width: int, beside: Coder) -> None:
        self.width, self.beside, self.bias_D = width, beside, torch.zeros(width)

    def usable(self, read_RTD: Tensor) -> Tensor:
        return self.beside.usable(read_RTD)

    def encode(self, read_ND: Tensor, own_ND: Tensor, usable_N: Tensor) -> Coded:
        del read_ND
        return _Dimensions(torch.where(usable_N[:, None], own_ND, 0.0))

    def rows(self, latents: Sequence[int]) -> Tensor:
        return torch.eye(self.width)[list(latents)]


@dataclass(frozen=True)
class CodedSite:
    """A place that a coder writes; ``coder`` None: the prompt's tokens, whose whole difference is
    one vector each."""

    site: str
    reads: str
    coder: Coder | None


def coded_sites(host: HostModel, saes: Sequence[HostedSAE]) -> list[tuple[int, CodedSite]]:
    """(place in ``saes``, site) in the order in which the host computes what is written.

    ``DataError`` for an SAE of several places or host models, for two that write one site, and for
    one that reads what comes after it.
    """
    made = []
    for number, hosted in enumerate(saes):
        if hosted.hooks.other_hosts:
            raise DataError("An SAE of several host models has no place in a feature circuit.")
        reads, writes = hosted.site, hosted.target
        if _depth(reads) > _depth(writes):
            raise DataError(f"An SAE reads {reads}, which comes after {writes}, where it writes.")
        made.append((number, CodedSite(writes, reads, SaeCoder(hosted))))
    names = [site.site for _, site in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"Two SAEs write {twice}.", "Take one for each site.")
    for name in {name for _, site in made for name in (site.site, site.reads)}:
        host.site_width(name)  # raises
    return sorted(made, key=lambda each: _depth(each[1].site))


def with_tokens(host: HostModel, sites: Sequence[CodedSite]) -> list[CodedSite]:
    """The prompt's tokens before the sites, unless an SAE writes there."""
    if STREAM not in host.sites() or any(each.site == STREAM for each in sites):
        return list(sites)
    return [CodedSite(STREAM, STREAM, None), *sites]


def _depth(site: str) -> tuple[int, int]:
    layer, kind = parse_site(site)
    return layer, kinds.KINDS.index(kind)


Put = Callable[[int, Tensor, Tensor], Tensor | None]
"""(number of the site, what is read, what is there), each ``[R, T, width]`` float32, to what is
there instead; None leaves it."""


def run(host: HostModel, sites: Sequence[CodedSite], ids_RT: Tensor, put: Put) -> Tensor:
    """Logits ``[R, V]`` of what follows, with ``put`` asked at every site in their order.

    Gradients flow, where they are enabled, from what is put in place; the host's weights take none.
    """
    read: dict[str, Tensor] = {}
    by_name = {each.site: number for number, each in enumerate(sites)}
    wanted = {each.reads for each in sites}

    def edit(name: str) -> Edit:
        def apply(value: Tensor) -> Tensor:
            number, now = by_name.get(name), value.float()
            if number is not None:
                source = sites[number].reads
                made = put(number, now if source == name else read[source], now)
                if made is not None:
                    value, now = made.to(value), made.float()
            if name in wanted:
                read[name] = now
            return value

        return apply

    shape = int(ids_RT.shape[0]), int(ids_RT.shape[1])
    with host.opened() as opened, _weights_held(opened.model):
        planned = opened.sites.plan({name: edit(name) for name in {*by_name, *wanted}})
        keep = {"logits_to_keep": 1} if host.abilities.cache else {}
        with Editor(planned, shape):
            result = opened.model(input_ids=ids_RT.to(host.device), use_cache=False, **keep)
    logits_RV: Tensor = result.logits[:, -1]
    return logits_RV.float()


@contextmanager
def _weights_held(model: nn.Module) -> Iterator[None]:
    """Without gradients of weights nothing below the first change is remembered."""
    held = [each for each in model.parameters() if each.requires_grad]
    for each in held:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in held:
            each.requires_grad_(True)
