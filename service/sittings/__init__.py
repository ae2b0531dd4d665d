"""Sittings: a person takes the test that a judge takes, and what comes of it is a score."""
