"""Layouts of SAEs in two dimensions."""
