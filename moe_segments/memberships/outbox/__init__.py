"""Places that keep membership changes until they are applied."""
