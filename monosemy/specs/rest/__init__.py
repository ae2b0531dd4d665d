"""Bodies of the REST API, one module for each of its domains: the service answers with these models
and ``monosemy.Client`` reads them."""
