"""Benchmarks: one file a question, each printing a ratio from one interleaved run. See README.md."""
