"""Tests of judges: kept by endpoint, model and prompt."""
