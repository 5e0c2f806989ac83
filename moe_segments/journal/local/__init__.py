"""Parts of a journal on this host: clock, process, private files, witnesses."""
