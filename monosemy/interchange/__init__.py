"""Explanations, scores and examples in the layouts of other tools, read and written."""
