"""Runs a batch until its outcome is certain, and keeps the committers going."""
