"""Snapshots of a segment's members: their format, and the places that keep them."""
