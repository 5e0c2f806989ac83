"""What a journal keeps on this host: clock, process, private files, witnesses."""
