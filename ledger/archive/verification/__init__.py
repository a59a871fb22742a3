"""Verifies an archive: each object, the tree over all entries, and the live database."""
