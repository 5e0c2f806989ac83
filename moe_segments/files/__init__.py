"""Files of users: check, clean, split, count, wherever they lie."""
