"""What a search over blocks does below its pages: rows, walks through them, matches, payloads."""
