"""Requests and answers of the service, encoded and decoded. Pure."""
