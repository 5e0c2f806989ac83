"""The sections of the page: each what it shows, from one look at the journal, and its HTML. Pure."""
