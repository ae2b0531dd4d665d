"""Tags: short words that features carry."""
