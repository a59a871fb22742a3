"""The PostgreSQL fixtures themselves."""

import asyncpg
import pytest

from tests.support.clusters import Database


async def test_owner_owns_the_database_and_the_server_role_may_only_connect(
    empty_database: Database,
) -> None:
    owner = await asyncpg.connect(empty_database.owner_url)
    server = await asyncpg.connect(empty_database.server_url)
    try:
        await owner.execute("CREATE TABLE made_by_owner (a int)")
        for refused in ("CREATE TABLE mine (a int)", "SELECT * FROM made_by_owner"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await server.execute(refused)
        assert not await owner.fetchval(
            "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
    finally:
        await owner.close()
        await server.close()
