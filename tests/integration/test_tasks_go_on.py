"""A worker task that fails is logged and restarted; notifications are followed again."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from ledger.storage import listen
from server.trails import services
from server.trails.services import Services
from tests.support.clusters import Database

FAILING = f"{__name__}:fails_twice"
began: list[int] = []


async def fails_twice(_: Services) -> None:
    began.append(1)
    if len(began) <= 2:
        raise RuntimeError("a double that raises")


async def test_a_failed_task_is_restarted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(services, "AGAIN_S", 0.0)
    began.clear()
    await Services._keep(object(), FAILING)  # type: ignore[arg-type]
    assert len(began) == 3
    said = capsys.readouterr()
    logged = said.out + said.err
    assert logged.count("failed and is started again") == 1
    assert "RuntimeError: a double that raises" in logged


async def test_a_connection_lost_before_it_listens_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications report revoked keys: a worker that does not listen would let them in."""
    monkeypatch.setattr(listen, "RETRY_S", 0.0)
    notified = asyncio.Event()
    original = asyncpg.Connection.add_listener
    lost = iter([True, True, False])

    async def add_listener(connection: asyncpg.Connection[Any], *arguments: Any) -> None:
        if next(lost, False):
            connection.terminate()
        await original(connection, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "add_listener", add_listener)
    listening = asyncio.Event()
    following = asyncio.create_task(
        listen.follow(database.server_url, {"here": lambda _: notified.set()}, listening.set)
    )
    connection = await asyncpg.connect(database.server_url)
    try:
        async with asyncio.timeout(60):
            while not notified.is_set():
                assert not following.done()
                await connection.execute("NOTIFY here")
                await asyncio.sleep(0.05)
    finally:
        following.cancel()
        await connection.close()
