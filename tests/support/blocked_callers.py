"""Callers from given addresses, behind a proxy on loopback, and the blocks of addresses of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg

from tests.support.clusters import Database, blocking
from tests.support.serving import PeerAnswer, Server, start_server

EXEMPT = "198.51.100.0/24, 2001:db8:e::/48, 2001:db8:f:1::7"


class Gate(NamedTuple):
    """A server that believes a proxy on loopback, with an org; and what is asked of it."""

    server: Server

    def coming(self, address: str, method: str = "GET", path: str = "/v1/whoami",
               body: Any = None, key: str | None = None) -> PeerAnswer:  # fmt: skip
        """One request, which the proxy says to come from an address."""
        headers = {"x-forwarded-for": address}
        key = key or self.server.admin_key
        return self.server.request(method, path, body, key=key, headers=headers)

    def let_in(self, address: str) -> bool:
        """Return whether requests from an address are answered."""
        status = self.coming(address).status
        assert status in {200, 403}
        return status == 200

    def as_platform(self, method: str, path: str, body: Any = None) -> PeerAnswer:
        return self.server.request(method, path, body, key=self.server.platform_key)

    def ask_to_block(self, address: str, hours: int = 1, reason: str = "tries keys") -> PeerAnswer:
        asked = {"address": address, "reason": reason, "hours": hours}
        return self.as_platform("POST", "/v1/blocks", asked)

    def block(self, address: str, hours: int = 1, reason: str = "tries keys") -> dict[str, Any]:
        """Block an address; return the block."""
        made = self.ask_to_block(address, hours, reason)
        assert made.status == 201, made.body
        found: dict[str, Any] = made.json()
        return found

    def blocks(self) -> dict[str, dict[str, Any]]:
        """The live blocks by id."""
        found = self.as_platform("GET", "/v1/blocks")
        assert found.status == 200, found.body
        return {each["id"]: each for each in found.json()["blocks"]}

    def lift(self, block_id: str) -> int:
        """Lift a block; return the status."""
        return self.as_platform("DELETE", f"/v1/blocks/{block_id}").status

    def owner(self, *statements: str) -> list[Any]:
        """Run statements as the owner of the database; return the rows of the last one."""

        async def execute() -> list[Any]:
            connection = await asyncpg.connect(self.server.database.superuser_url)
            try:
                await connection.execute("SET session_replication_role = replica")
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return await connection.fetch(statements[-1])
            finally:
                await connection.close()

        found: list[Any] = blocking(execute())
        return found


def start_gate(database: Database, data_dir: Path, **changes: Any) -> Gate:
    """Start a server behind a proxy on loopback, which names the address of each caller."""
    given = {"trusted_proxies": "127.0.0.0/8", "block_exempt": EXEMPT, **changes}
    running = start_server(database, data_dir / uuid4().hex[:8], **given)
    running.org, running.admin_key = running.create_org("plain")
    return Gate(running)
