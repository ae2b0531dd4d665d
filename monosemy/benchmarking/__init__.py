"""Benchmarks of SAEs: what they are worth, beside baselines and chance, with intervals."""
