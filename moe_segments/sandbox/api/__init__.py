"""The calls of the service: bodies read, answers shaped as documented. Pure."""
