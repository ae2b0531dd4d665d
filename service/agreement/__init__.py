"""How far those who answer the same things agree."""
