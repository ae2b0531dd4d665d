"""Latents of crosscoders, as evaluations have measured them."""
