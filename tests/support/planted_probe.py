"""Judged items and hidden states with one direction that says the answer."""

from __future__ import annotations

import numpy as np

from monosemy.interp.probe.items import JudgedItem

WORDS = [f"word{i}" for i in range(60)]


def made(features: int, each: int, answers: np.ndarray, seed: int = 0) -> list[JudgedItem]:
    """Items whose words have nothing to do with the answers."""
    rng = np.random.default_rng(seed)
    return [
        JudgedItem(
            i // each,
            " ".join(np.random.default_rng(i // each).choice(WORDS, 4)),
            " ".join(rng.choice(WORDS, 12)),
            bool(answers[i]),
        )
        for i in range(features * each)
    ]


def planted(noise: float, features: int = 30, each: int = 10, seed: int = 0) -> tuple:
    """States with one direction that says the answer, among 40 that say nothing."""
    rng = np.random.default_rng(seed)
    answers = rng.random(features * each) < 0.5
    states = rng.normal(size=(features * each, 40))
    states += 3 * rng.normal(size=(features, 40)).repeat(each, axis=0)  # each feature's own place
    direction = rng.normal(size=40)
    direction /= np.linalg.norm(direction)
    states -= np.outer(states @ direction, direction)
    signal = np.where(answers, 1.0, -1.0) + noise * rng.normal(size=len(answers))
    return made(features, each, answers, seed), states + np.outer(signal, direction)
