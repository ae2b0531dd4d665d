"""Threads and places for calls that take long, and results that callers share."""
