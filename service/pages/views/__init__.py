"""One module for each page (or few that belong together), each with a ``router`` of its own."""
