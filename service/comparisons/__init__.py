"""Features of two SAEs that belong together."""
