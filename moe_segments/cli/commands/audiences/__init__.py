"""The commands on audiences: `sync`, `audiences`, `audiences forget`."""
