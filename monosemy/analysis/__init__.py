"""What trained SAEs have to do with each other."""
