"""A write that is no entry, and what its failure says to somebody who may not know the details."""

from __future__ import annotations

from typing import Final

import asyncpg

PROBE: Final = "SELECT quire_probe_write()"
"""Needs what an append needs; see the migration that makes it."""
_SCHEMA_ERRORS: Final = "42"
"""Class of SQLSTATE: a right was revoked, a table or a function is gone."""

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
    """Why nothing can be written, without hosts, users and tables."""
    # A timeout of ours has the cancelled work as its cause.
    cause = error if isinstance(error, TimeoutError) else error.__cause__ or error
    for kinds, reason in _REASONS:
        if isinstance(cause, kinds):
            return reason
    return "the database refuses writes; the server's log has the reason"


def is_of_the_schema(error: BaseException) -> bool:
    """Whether a write failed as long as nobody repairs rights or tables."""
    return str(getattr(error.__cause__, "sqlstate", "")).startswith(_SCHEMA_ERRORS)
