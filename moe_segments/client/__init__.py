"""The client, its jobs, and many operations at once."""
