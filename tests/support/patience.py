"""How long tests wait for what should hardly take any time."""

SOON = 20.0
"""Seconds: others may be using the machine.  What it is told apart from takes 30 and more."""
