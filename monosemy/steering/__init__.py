"""Text written by the host model while latents are pushed."""
