"""The page and the control API of a sandbox."""
