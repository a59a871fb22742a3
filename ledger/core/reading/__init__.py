"""Reads a trail whose entries are in the database, in the archive, or in both."""
