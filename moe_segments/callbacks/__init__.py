"""Callbacks of the service: received, checked, stored before they are acknowledged."""
