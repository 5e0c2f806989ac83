"""Journals on real servers, with faults between: started here, on loopback, and ended here."""
