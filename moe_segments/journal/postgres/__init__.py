"""The journal in PostgreSQL, for a fleet."""
