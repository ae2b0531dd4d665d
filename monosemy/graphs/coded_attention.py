"""Attention that an SAE stands for: features and an error in place of what heads read.

At the tokens that the SAE takes, ``attn.hook_z`` (or ``hook_attn_out``) of a layer is

    sum over features of activation * decoder row  +  b_dec  +  error,

from where z goes on through W_O.  At the others, and wherever there is no SAE, the stream goes
through the heads with the pattern held.  The features' own inputs go that way too: the encoder's
row at z is read back through the pattern and W_V, so that no edge ends at attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.graphs.attention import HeldAttention, Passing
from monosemy.graphs.features import FeatureGroup, Features
from monosemy.graphs.joining import Joining, join
from monosemy.graphs.replacement import GraphCoder
from monosemy.models import sites as kinds
from monosemy.models.sites import Site


@dataclass(frozen=True)
class CodedAttention:
    """One layer's attention on a prompt; W is the width of the site."""

    coder: GraphCoder
    site: Site
    value_TW: Tensor
    """What the host had there."""
    error_TW: Tensor
    """0 at tokens that the SAE does not take."""
    coded_T: Tensor
    groups: tuple[FeatureGroup, ...]

    @classmethod
    def of(
        cls, coder: GraphCoder, value_TW: Tensor, coded_T: Tensor, features: Features
    ) -> CodedAttention:
        assert coder.attention is not None
        groups = tuple(group for group in features.groups if group.coder is coder)
        made_TW = torch.zeros_like(value_TW)
        for group in groups:
            group.add_to(coder.attention.layer, made_TW)
        error_TW = value_TW - made_TW - coder.b_dec.to(value_TW.device)
        kept_TW = torch.where(coded_T[:, None], error_TW, 0.0)
        return cls(coder, coder.attention, value_TW, kept_TW, coded_T, groups)

    @property
    def layer(self) -> int:
        return self.site.layer

    @property
    def at_z(self) -> bool:
        """Whether it stands before W_O, or behind it."""
        return self.site.kind == kinds.Z

    def brought(self, held: HeldAttention, stream_TD: Tensor) -> Tensor:
        """What a part ``[T, D]`` of the stream before the block brings to the site, ``[T, W]``."""
        return held.z(stream_TD) if self.at_z else held.linear(stream_TD)

    def written(self, held: HeldAttention, there_TW: Tensor) -> Tensor:
        """What a part ``[T, W]`` of the site's value adds to the stream, ``[T, D]``."""
        return held.written(there_TW) if self.at_z else there_TW

    def open(self, cotangents: Tensor) -> Tensor:
        """Those of the first tokens ``[P, ...]`` that the SAE leaves to the heads."""
        taken = self.coded_T[: len(cotangents)].view(-1, *(1 for _ in cotangents.shape[1:]))
        return torch.where(taken, 0.0, cotangents)


@dataclass(frozen=True)
class CodedPass:
    """What a transposed pass meets at one such layer: ``edges_NB`` is added to."""

    coded: CodedAttention
    held: HeldAttention
    joining: Sequence[Joining]
    """Encoders of targets that read there."""
    edges_NB: Tensor
    first_error: int
    """Number of the layer's error at the first token among the sources."""
    biases: dict[str, int]
    """Numbers of the sources that are biases, by kind."""

    def passing(self) -> Passing:
        """For ``HeldAttention.add_transposed``."""
        constants = self.held.out_constants(), self.held.z_constants()

        def passed(behind_PbD: Tensor, z_PbZ: Tensor, start: int) -> Tensor:
            there_PbW = z_PbZ if self.coded.at_z else behind_PbD
            self._sources(there_PbW, start)
            there_PbW = self.coded.open(there_PbW)
            self._join(there_PbW, start)
            if self.coded.at_z:
                self._bias(constants[0], behind_PbD, start)
                z_PbZ = there_PbW
            else:
                self._bias(constants[0], there_PbW, start)
                z_PbZ = self.held.read(there_PbW)
            self._bias(constants[1], z_PbZ, start)
            return z_PbZ

        return passed

    def _sources(self, there_PbW: Tensor, start: int) -> None:
        """Products with what the SAE writes."""
        coded, tokens = self.coded, len(there_PbW)
        columns = slice(start, start + there_PbW.shape[1])
        for group in coded.groups:
            into = self.edges_NB[group.start : group.start + len(group), columns]
            group.products(coded.layer, there_PbW, into)
        errors = slice(self.first_error, self.first_error + tokens)
        made_Pb = torch.bmm(there_PbW, coded.error_TW[:tokens, :, None])[..., 0]
        self.edges_NB[errors, columns] += made_Pb
        taken_P = coded.coded_T[:tokens].float()
        of_bias_Pb = there_PbW @ coded.coder.b_dec.to(there_PbW.device)
        self.edges_NB[self.biases["decoder"], columns] += taken_P @ of_bias_Pb

    def _bias(self, constants: dict[str, Tensor], cotangents: Tensor, start: int) -> None:
        columns = slice(start, start + cotangents.shape[1])
        for kind, constant in constants.items():
            made_b = torch.einsum("pbw,pw->b", cotangents, constant[: len(cotangents)])
            self.edges_NB[self.biases[kind], columns] += made_b

    def _join(self, there_PbW: Tensor, start: int) -> None:
        stop = start + there_PbW.shape[1]
        for each in self.joining:
            mine = (each.column_N >= start) & (each.column_N < stop)
            part = Joining(each.column_N[mine] - start, each.token_N[mine], each.vector_ND[mine])
            join(there_PbW, [part])
