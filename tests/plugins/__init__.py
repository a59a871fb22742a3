"""Fixtures, one module per thing they provide; `tests/conftest.py` loads them all."""
