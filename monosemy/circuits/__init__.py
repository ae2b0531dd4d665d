"""Circuits of a host model: which parts of it, and of SAEs, do a task."""
