"""Lets a server in this process store and tell its acts when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.serving import Server

LATER = timedelta(hours=2)


def run_in(server: Server, work: Coroutine[Any, Any, Any]) -> Any:
    """Run something in the server's own loop."""
    assert server.services is not None
    loop = server.services._tasks[0].get_loop()
    return asyncio.run_coroutine_threadsafe(work, loop).result(60)


def tell(server: Server, after: timedelta = LATER) -> None:
    """Store what was counted, and write what is due after some time."""
    assert server.services is not None
    run_in(server, server.services.own.flush())
    run_in(server, server.services.own.write_due(datetime.now(UTC) + after))


def own_payloads(server: Server, event_type: str, org: str) -> list[Any]:
    """The payloads of the server's entries of a type, the oldest first."""
    path = f"/v1/orgs/{org}/entries?order=asc&event_type={event_type}"
    entries = server.request("GET", path, key=server.platform_key).json()["entries"]
    return [entry["payload"] for entry in entries]
