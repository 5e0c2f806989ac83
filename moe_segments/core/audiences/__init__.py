"""Decisions of audiences: differences of memberships, and the cheapest operations for them. Pure."""
