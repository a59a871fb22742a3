"""Reads an archive: single objects, or many at once in a dedicated process."""
