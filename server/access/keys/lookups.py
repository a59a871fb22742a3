"""Looks up the API keys that unknown callers present: all that wait, with one query at a time.

Whoever makes up keys can present any number of them. Together they take one connection of the
database, however many they are, and a caller whose key is good waits for two queries at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final

from ledger.storage.api_keys import ApiKeyRecord
from ledger.storage.asking import STRANGERS, Work, asking

AT_ONCE: Final = 500
"""Keys of one query."""

Found = dict[str, ApiKeyRecord]
ReadKeys = Callable[[Sequence[str]], Awaitable[Found]]


class KeyLookups:
    """The look-ups of one process; ``read`` returns those keys of a list that exist, by id."""

    def __init__(self, read: ReadKeys) -> None:
        self._read = read
        self._waiting: dict[str, asyncio.Future[ApiKeyRecord | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> ApiKeyRecord | None:
        """Return the key with this id as it is after this call began, or None.

        Raises DatabaseUnavailable.
        """
        answer = self._waiting.get(key_id)
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            self._waiting[key_id] = answer
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_all())
        return await asyncio.shield(answer)  # others may wait for it too

    async def _read_all(self) -> None:
        try:
            while self._waiting:
                some = list(islice(self._waiting, AT_ONCE))
                await self._answer({key_id: self._waiting.pop(key_id) for key_id in some})
        finally:
            self._reading = None

    async def _answer(self, asked: dict[str, asyncio.Future[ApiKeyRecord | None]]) -> None:
        try:
            with asking(Work.VITAL, STRANGERS):
                found = await self._read(list(asked))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            for answer in asked.values():
                answer.set_exception(error)
                answer.exception()  # nobody may wait any more
            return
        except asyncio.CancelledError:  # the loop ends
            for answer in asked.values():
                answer.cancel()
            raise
        for key_id, answer in asked.items():
            answer.set_result(found.get(key_id))
