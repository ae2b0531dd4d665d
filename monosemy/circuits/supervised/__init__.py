"""Dictionaries made of known attributes, and what SAEs are worth beside them."""
