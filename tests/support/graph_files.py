"""Attribution graphs as others send them."""

from __future__ import annotations

from typing import Any


def node(node_id: str, kind: str, layer: str, place: int, **more: Any) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "feature": None,
        "layer": layer,
        "ctx_idx": place,
        "feature_type": kind,
        "jsNodeId": f"{node_id}-0",
        "clerp": "",
        **more,
    }


def smallest_file() -> dict[str, Any]:
    """A token, a feature, an error and a logit of circuit-tracer's, whose error and feature have
    ids of their own."""
    return {
        "metadata": {
            "slug": "sent",
            "scan": "gemma-2-2b",
            "prompt": "the king",
            "prompt_tokens": ["the", " king"],
        },
        "qParams": {},
        "nodes": [
            node("E_5_1", "embedding", "E", 1),
            node(
                "2_7_1", "cross layer transcoder", "2", 1, feature=52, activation=1.5, clerp="kings"
            ),
            node("0_1_1", "mlp reconstruction error", "1", 1, feature=-1),
            node(
                "4_9_1",
                "logit",
                "4",
                1,
                feature=9,
                token_prob=0.5,
                clerp='Output " sat" (p=0.500)',
                is_target_logit=True,
            ),
        ],
        "links": [
            {"source": "E_5_1", "target": "2_7_1", "weight": 2.0},
            {"source": "0_1_1", "target": "2_7_1", "weight": -0.5},
            {"source": "2_7_1", "target": "4_9_1", "weight": 3.0},
        ],
    }
