"""What the package tells its users of its work: events, and logs, traces and metrics made of them."""
