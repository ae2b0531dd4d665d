"""What stands between a request and its endpoint: server, middleware, access, routes, context."""
