"""LISTEN on a connection of its own, kept open for as long as the task runs."""

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
    """Call what is given for a channel with the payload of each notification, for ever.

    ``on_gap`` is called whenever notifications may have been missed: after each
    loss of the connection, and before listening begins again.
    """

    def hear(*notification: object) -> None:
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
                    await connection.add_listener(channel, hear)
            on_gap()
            await lost.wait()
        except StorageError:
            pass  # it was lost before it listened
        finally:
            connection.terminate()
        on_gap()
        await asyncio.sleep(RETRY_S)
