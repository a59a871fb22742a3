"""Checks that a login may do what the server's role may not, and that the server can't become it."""

from __future__ import annotations

from typing import Final

from ledger.errors import DatabaseUnfit
from ledger.storage.database import LOGIN_SETTINGS, SERVER_ROLE, connect, explained

# The members of a login or of its role can act as it, and end its sessions.
OPEN_TO_SERVER: Final = """
SELECT r.rolname FROM pg_roles r
WHERE r.rolname IN (session_user, $1) AND pg_has_role($2, r.oid, 'MEMBER') LIMIT 1"""


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
