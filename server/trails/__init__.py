"""Trails in the server: appending, reading, freezing, retention."""
