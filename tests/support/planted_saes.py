"""SAEs whose codes are known: each latent is one coordinate of what is read, or its opposite."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from monosemy.formats.saelens import save_sae
from monosemy.models.host import HostModel
from monosemy.saes.registry import create
from monosemy.specs import TopKSpec
from monosemy.workspace import Workspace


def write_basis_sae(
    folder: Path, width: int, model: str, site: str, prepend_bos: bool = True
) -> None:
    """With k = d_sae, latent j is ``relu(x_j)`` and latent d + j is ``relu(-x_j)``."""
    sae = create(TopKSpec(d_sae=2 * width, k=2 * width), width)
    basis = torch.cat([torch.eye(width), -torch.eye(width)])
    with torch.no_grad():
        sae.W_dec.copy_(basis)
        sae.W_enc.copy_(basis.T)
    spec = {"kind": "train", "model": {"name": model}, "site": site}
    spec["sae"] = sae.spec.model_dump(mode="json")
    save_sae(sae, folder, {"prepend_bos": prepend_bos}, {"spec": spec, "metrics": {}})


def basis_codes(acts_ND: Tensor) -> Tensor:
    """``[n, 2 d]``"""
    return torch.cat([acts_ND, -acts_ND], 1).clamp_min(0)


class Planted:
    """A host model's folder and an artifact root with SAEs of its every site asked for."""

    def __init__(self, root: Path, host: HostModel, model: Path) -> None:
        self.workspace = Workspace(root)
        self.host, self.model = host, str(model)

    @property
    def spec(self) -> dict[str, str]:
        return {"name": self.model, "dtype": "float32", "device": "cpu"}

    def sae(self, site: str, prepend_bos: bool = True) -> dict[str, str]:
        """``{"id", "path", "site"}``, written where it is not there yet."""
        path = f"saes/{site}-{prepend_bos}"
        folder = self.workspace.locate(path)
        if not (folder / "cfg.json").is_file():
            write_basis_sae(folder, self.host.site_width(site), self.model, site, prepend_bos)
        return {"id": path, "path": path, "site": site}

    def codes(self, ids: list[int], site: str, skip: int) -> Tensor:
        """What such an SAE says of the tokens after ``skip``, read alone, ``[n, 2 d]``."""
        row = torch.tensor([ids])
        return basis_codes(self.host.capture(row, torch.ones_like(row), [site])[site][0, skip:])
