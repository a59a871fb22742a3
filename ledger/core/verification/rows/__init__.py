"""Reads, checks and hashes the rows of one segment of a trail."""
