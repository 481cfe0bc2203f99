"""How fast and how large: one question per file."""
