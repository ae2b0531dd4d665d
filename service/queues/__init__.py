"""Queues: how many runs of each may go on, and whether any may start."""
