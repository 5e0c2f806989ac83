"""Membership changes as they happen: an outbox that keeps them, and a flusher that sends what gathered."""
