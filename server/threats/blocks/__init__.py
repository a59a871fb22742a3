"""Blocks of addresses: made by hand or by the server itself, lifted, listed."""
