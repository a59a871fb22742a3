"""Shared fixtures, one module for each resource; `tests/conftest.py` loads them all."""
