"""Refuses a start without a login that the settings need, with the command that creates it."""

from __future__ import annotations

from typing import Final

import structlog

from server.process.own_database import DatabaseUrls
from server.refusal import StartupRefused
from server.settings import Settings

log = structlog.get_logger("quire")

_CREATE: Final = (
    "As a superuser of the database: CREATE ROLE {role} LOGIN PASSWORD '…'; GRANT CONNECT ON "
    "DATABASE … TO {role}; where the role exists: ALTER ROLE {role} LOGIN PASSWORD '…'. Then set "
    "{setting} to its URL (docs/database.md, Roles)."
)
_RETENTION: Final = _CREATE.format(role="quire_retention", setting="QUIRE_DATABASE_RETENTION_URL")


def retention_login(settings: Settings, urls: DatabaseUrls) -> str | None:
    """Return the URL of the login of retention; None where nothing is to be dropped without it.

    Raises StartupRefused if a policy is set and the login is missing.
    """
    if urls.retention is not None:
        return urls.retention
    if settings.retention_months is not None:
        raise StartupRefused(
            "QUIRE_RETENTION_MONTHS is set, but QUIRE_DATABASE_RETENTION_URL is not: only the login "
            f"of retention may drop months. {_RETENTION}"
        )
    log.warning(
        "months that are over are not sealed and expired idempotency keys are not dropped: "
        "QUIRE_DATABASE_RETENTION_URL is not set",
        advice=_RETENTION,
    )
    return None
