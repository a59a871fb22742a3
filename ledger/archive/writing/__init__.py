"""Writes an archive: the growth of a log, as objects that are stored once and in order."""
