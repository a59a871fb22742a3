"""Restores orgs into a database from an archive."""
