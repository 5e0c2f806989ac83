"""The HTTP session to the service: one request, sent at most once."""
