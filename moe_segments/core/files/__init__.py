"""Rules of a CSV file and their findings, over chunks of bytes. Pure."""
