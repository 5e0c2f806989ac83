"""Sources that a file of audiences names: the output of a command, the rows of a query."""
