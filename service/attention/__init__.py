"""Surveys of the attention heads behind SAEs."""
