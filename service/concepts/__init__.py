"""Concepts: texts told, and written, by features that were found in texts."""
