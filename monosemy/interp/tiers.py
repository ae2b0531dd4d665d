"""Kinds of examples that an explanation is scored on.  Negatives are reported tier by tier."""

from __future__ import annotations

ACTIVATING = "activating"
RANDOM = "random"
SAME_TOKEN = "same_token"
EMBEDDING_NEAR = "embedding_near"
NEIGHBOUR = "neighbour"
NEAREST_EXPLANATIONS = "nearest_explanations"
MIS_MARKED = "mis_marked"
