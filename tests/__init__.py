"""The suite: every test runs against a real PostgreSQL."""
