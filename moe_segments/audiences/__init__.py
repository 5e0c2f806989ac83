"""Audiences: desired members in, the cheapest sufficient operations out."""
