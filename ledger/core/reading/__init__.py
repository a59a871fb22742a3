"""Reads a trail from the database and, for entries that were dropped from it, from the archive."""
