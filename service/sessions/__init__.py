"""Sessions of browsers: an API key is given once, then a cookie stands for it."""
