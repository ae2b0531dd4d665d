"""Sets: SAEs of one host model in several layers."""
