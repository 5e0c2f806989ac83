"""The journal on Redis or Valkey, for a fleet."""
