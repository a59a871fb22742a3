"""Restoring a database from an archive."""
