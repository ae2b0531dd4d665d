"""What benchmarks find of SAEs, and leaderboards of it."""
