"""One path for every request: check, wait, reserve, send, record, reconcile."""
