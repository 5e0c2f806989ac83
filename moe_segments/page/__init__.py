"""The parts of a page that a program of this package serves on loopback: of the sandbox, and of the dashboard."""
