"""Feature absorption: latents that stay silent where another one has taken over their share."""
