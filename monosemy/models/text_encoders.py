"""Text encoders that read causally: CLIP's, alone or as a part of a whole CLIP.

Stable Diffusion has one (``text_encoder``, its tokenizer in a folder of its own).  Whether one is
causal is tried as of any model (``abilities.check_reading``).
"""

from __future__ import annotations

import copy
from typing import Any

PROJECTED = "CLIPTextModelWithProjection"
"""The one whose embedding stands beside those of images."""
_PREFIX = "text_model"
"""Of names in files of days when the text model was wrapped, and of those of a whole CLIP."""


def text_encoder_config(config: Any) -> Any | None:
    """The configuration of the text encoder that ``config`` describes, or has as a part (a copy);
    None where it does neither."""
    from transformers import CLIPConfig, CLIPTextConfig

    if type(config) is CLIPTextConfig:
        return config
    if type(config) is not CLIPConfig:
        return None
    part: Any = copy.deepcopy(config.text_config)
    part.projection_dim = config.projection_dim
    part.architectures = [PROJECTED]
    return part


def text_encoder_class(config: Any) -> Any | None:
    """The class of transformers for a configuration that ``text_encoder_config`` gave; None for
    any other."""
    from transformers import CLIPTextConfig

    if type(config) is not CLIPTextConfig:
        return None
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    projected = PROJECTED in (config.architectures or ())
    return CLIPTextModelWithProjection if projected else CLIPTextModel


def stored_prefix(model: Any) -> str:
    """What names of weights in files may begin with, and those in memory lack, or the other way
    round."""
    if text_encoder_class(model.config) is not None:
        return _PREFIX
    return str(getattr(model, "base_model_prefix", ""))
