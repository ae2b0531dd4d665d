"""Lists of features that people gather."""
