"""The offline page in a real browser."""
