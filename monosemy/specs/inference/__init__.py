"""The inference contract: what is asked of texts, and what is answered, by the API, its clients and
the inference server."""
