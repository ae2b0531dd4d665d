"""A small model's hidden states as a judge, trained on judgements of an expensive one."""
