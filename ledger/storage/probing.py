"""A test write that is not an entry, and the public reason for a failed write."""

from __future__ import annotations

from typing import Final

import asyncpg

_SCHEMA_ERRORS: Final = "42"
"""Class of SQLSTATE: a right was revoked, a table or a function is missing."""

_REASONS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((asyncpg.DiskFullError,), "the database has no disk space left"),
    ((asyncpg.ReadOnlySQLTransactionError,), "the database is read-only"),
    ((asyncpg.TooManyConnectionsError,), "the database allows no more connections"),
    ((TimeoutError,), "the database confirmed no write in time"),
    (
        (OSError, asyncpg.PostgresConnectionError, asyncpg.exceptions.OperatorInterventionError),
        "the database can't be reached",
    ),
)


def public_reason(error: BaseException) -> str:
    """Return why nothing can be written, without names of hosts, users and tables."""
    # The cause of Quire's own timeout is the cancelled operation.
    cause = error if isinstance(error, TimeoutError) else error.__cause__ or error
    for kinds, reason in _REASONS:
        if isinstance(cause, kinds):
            return reason
    return "the database refuses writes; the server's log has the reason"


def is_of_the_schema(error: BaseException) -> bool:
    """Return whether a write fails until someone repairs rights or tables."""
    return str(getattr(error.__cause__, "sqlstate", "")).startswith(_SCHEMA_ERRORS)
