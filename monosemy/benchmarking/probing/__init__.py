"""Sparse probing: what few latents of an SAE tell of texts that people have labelled."""
