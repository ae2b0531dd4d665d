"""Circuits: heads of a host model that do a task."""
