"""Folded state of one workspace: jobs, segments, keys, and what may be reserved now. Pure."""
