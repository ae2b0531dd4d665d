"""Words that graphs are stored with.  No torch."""

BIASES = ("encoder", "decoder", "attention", "norm", "unembedding")
"""Kinds of constants: b_enc of the target; b_dec; b_V and b_O; shifts of norms; that of a logit."""
