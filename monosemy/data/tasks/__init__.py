"""Prompts of known structure: tasks whose answer a circuit of a host model must find.  No torch."""
