"""Concepts: texts told apart by an SAE's features, and written without these."""
