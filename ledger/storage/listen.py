"""LISTEN on a dedicated connection, kept open while the task runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from ledger.errors import StorageError
from ledger.storage.database import connect, explained

RETRY_S: Final = 1.0


async def follow(
    url: str, channels: Mapping[str, Callable[[str], None]], on_gap: Callable[[], None]
) -> None:
    """Call a channel's function with the payload of each notification; never returns.

    ``on_gap`` is called whenever notifications may have been missed: after each
    loss of the connection, and once listening has begun again.
    """

    def deliver(*notification: object) -> None:
        channel, payload = notification[-2:]
        channels[str(channel)](str(payload))

    while True:
        lost = asyncio.Event()
        try:
            connection = await connect(url, name="quire listen")
        except StorageError:
            await asyncio.sleep(RETRY_S)
            continue
        try:
            connection.add_termination_listener(lambda _, lost=lost: lost.set())
            async with explained():
                for channel in channels:
                    await connection.add_listener(channel, deliver)
            on_gap()
            await lost.wait()
        except StorageError:
            pass  # the connection was lost before it listened
        finally:
            connection.terminate()
        on_gap()
        await asyncio.sleep(RETRY_S)
