"""Verification of an archive: each object, the tree over all, and the live database beside it."""
