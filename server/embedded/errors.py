"""Errors of the embedded PostgreSQL."""

from server.refusal import StartupRefused


class EmbeddedPostgresError(StartupRefused):
    """The embedded PostgreSQL cannot be created, started or stopped; the message says why."""
