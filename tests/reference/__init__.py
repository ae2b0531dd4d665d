"""The reference: one small run of everything, and what two commits make of it, bit for bit."""
