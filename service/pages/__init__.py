"""The explorer: web pages of the service, made of the same answers as REST's."""
