"""Refuses a start without a login that the settings need, with the command that creates it."""

from __future__ import annotations

from typing import Final

import structlog

from server.process.database.own_database import DatabaseUrls
from server.refusal import StartupRefused
from server.settings import Settings

log = structlog.get_logger("quire")

_CREATE: Final = (
    "As a superuser of the database: CREATE ROLE {role} LOGIN PASSWORD '…'; GRANT CONNECT ON "
    "DATABASE … TO {role}; where the role exists: ALTER ROLE {role} LOGIN PASSWORD '…'. Then set "
    "{setting} to its URL (docs/database.md, Roles)."
)
_SIGNER: Final = _CREATE.format(role="quire_signer", setting="QUIRE_DATABASE_SIGNER_URL")
_RETENTION: Final = _CREATE.format(role="quire_retention", setting="QUIRE_DATABASE_RETENTION_URL")


def signer_login(settings: Settings, urls: DatabaseUrls) -> str | None:
    """Return the URL of the signer's login; None where another server signs.

    Raises StartupRefused if the login is missing.
    """
    if not settings.checkpoints:
        return None
    if urls.signer is None:
        raise StartupRefused(
            "QUIRE_DATABASE_SIGNER_URL is not set, and checkpoints are signed by a login that the "
            f"server's role can't hold off. {_SIGNER} Where another server signs for this database, "
            "set QUIRE_CHECKPOINTS=false."
        )
    return urls.signer


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
