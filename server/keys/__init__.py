"""The keys of the server: their files, the first start, and what the server trusts."""
