"""Publishing a local file where the service can fetch it."""
