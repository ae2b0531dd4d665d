"""Activations whose attributes are known: methods 6.6 and the two toys of 6.5."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from monosemy.circuits.supervised.task import Values


@dataclass(frozen=True)
class Planted:
    """Activations ``[N, d]`` that are a mean, one row for each attribute's value, and noise."""

    values: Values
    rows_UD: Tensor
    """The true codes, centred within each attribute."""
    mean_D: Tensor
    codes_NK: Tensor
    acts_ND: Tensor

    def half(self, first: bool) -> tuple[Tensor, Tensor]:
        """(activations, codes) of the first 70 % or of the rest."""
        cut = int(0.7 * len(self.acts_ND))
        part = slice(0, cut) if first else slice(cut, None)
        return self.acts_ND[part], self.codes_NK[part]


def planted(
    sizes: dict[str, tuple[int, float]],
    d: int = 64,
    n: int = 6000,
    noise: float = 0.1,
    seed: int = 0,
) -> Planted:
    """``sizes``: of each attribute how many values it has and how long its codes are."""
    generator = torch.Generator().manual_seed(seed)
    values = Values({name: tuple(f"v{i:03d}" for i in range(v)) for name, (v, _) in sizes.items()})
    parts, columns = [], []
    for number, (count, length) in enumerate(sizes.values()):
        rows_VD = torch.randn(count, d, generator=generator)
        parts.append(length * rows_VD / rows_VD.norm(dim=1, keepdim=True))
        drawn_N = torch.randint(count, (n,), generator=generator)
        drawn_N[:count] = torch.arange(count)
        columns.append(drawn_N + values.starts[number])
    rows_UD, codes_NK = torch.cat(parts), torch.stack(columns, 1)
    mean_D = torch.randn(d, generator=generator)
    acts_ND = mean_D + rows_UD[codes_NK].sum(1)
    acts_ND = acts_ND + noise * torch.randn(n, d, generator=generator)
    centred_UD = torch.cat([part - part.mean(0) for part in parts])
    return Planted(values, centred_UD, mean_D, codes_NK, acts_ND)


IOI_LIKE = {"io": (24, 1.0), "s": (24, 0.8), "pos": (2, 1.0)}
