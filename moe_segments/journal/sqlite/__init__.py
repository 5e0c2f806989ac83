"""The journal in one SQLite file, for the processes of one host."""
