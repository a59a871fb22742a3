"""Checks that the logins are apart: none of what the server's login may not do is open to it."""

from __future__ import annotations

from typing import Final

from ledger.errors import DatabaseUnfit
from ledger.storage.database import (
    LOGIN_SETTINGS,
    RETENTION_ROLE,
    SERVER_ROLE,
    SIGNER_ROLE,
    connect,
    connect_as_owner,
    explained,
)

# The members of a login or of its role can act as it, and end its sessions.
OPEN_TO_SERVER: Final = """
SELECT r.rolname FROM pg_roles r
WHERE r.rolname IN (session_user, $1) AND pg_has_role($2, r.oid, 'MEMBER') LIMIT 1"""
# A superuser is a member of all roles. Until PostgreSQL 15, CREATEROLE can join any other role.
TOO_MUCH: Final = """
SELECT CASE
    WHEN l.rolsuper THEN 'it is a superuser'
    WHEN l.rolcreaterole THEN 'it has CREATEROLE'
    ELSE (SELECT 'it is a member of ' || r.rolname FROM pg_roles r
          WHERE r.rolname = ANY ($1::text[]) AND pg_has_role(l.oid, r.oid, 'MEMBER')
          ORDER BY 1 LIMIT 1)
END
FROM pg_roles l WHERE l.rolname IN (session_user, $2) ORDER BY 1 LIMIT 1"""
# Roles of PostgreSQL that end the sessions of others, or change the tables and files of all.
OTHERS: Final = (
    "pg_signal_backend",
    "pg_write_all_data",
    "pg_maintain",
    "pg_execute_server_program",
    "pg_write_server_files",
)


async def require_login(url: str, role: str) -> None:
    """Connect as a role. Raises DatabaseUnfit if the server's role can become it.

    Raises StorageError if the login can't act as the role.
    """
    connection = await connect(url, name="quire start", role=role)
    try:
        async with explained():
            reached = await connection.fetchval(OPEN_TO_SERVER, role, SERVER_ROLE)
    finally:
        connection.terminate()
    if reached is not None:
        raise DatabaseUnfit(
            f"the role {SERVER_ROLE} can become {reached}, the login of {LOGIN_SETTINGS[role]}: "
            f"what only {role} may do would be open to the server. Give {role} a login of its own, "
            f"and if {SERVER_ROLE} is a member: REVOKE {reached} FROM {SERVER_ROLE}"
        )


async def require_confined(server_url: str) -> None:
    """Raise DatabaseUnfit if the login of the server may do what belongs to the other logins."""
    connection = await connect_as_owner(server_url, name="quire start")
    try:
        async with explained():
            reason = await connection.fetchval(
                TOO_MUCH, [SIGNER_ROLE, RETENTION_ROLE, *OTHERS], SERVER_ROLE
            )
    finally:
        connection.terminate()
    if reason is not None:
        raise DatabaseUnfit(
            f"the login of {LOGIN_SETTINGS[SERVER_ROLE]} may do too much: {reason}. So it could "
            "sign, drop months, or hold the signer off. Connect as quire_server, which has none of "
            "this, and name the owner's login by QUIRE_DATABASE_OWNER_URL (docs/database.md, Roles)"
        )
