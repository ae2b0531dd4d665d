"""What dictionaries are worth at tasks whose attributes are known."""
