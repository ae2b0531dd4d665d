"""Sparse feature circuits: which features of SAEs carry a difference between pairs of prompts."""
