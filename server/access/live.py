"""The requests that are being answered: those of an ended key or a blocked address end within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.errors import QueueFull, QuireError, StorageError
from server.access.auth import Authenticator, no_longer_valid
from server.access.callers.blocked import BlockedAddresses
from server.access.principal import Principal
from server.addresses import ClientAddress

POLL_S: Final = 0.25
"""Pause between two looks at all live requests: what the process knows, without a query."""
RENEW_S: Final = 0.5
"""How long a changed key is looked up; a request of one that is not found in time ends."""


class LiveRequest:
    """One request: whether it may be broken off, and why it was, once it was."""

    __slots__ = ("address", "ended", "interruptible", "principal")

    def __init__(
        self, principal: Principal, address: ClientAddress, *, interruptible: bool
    ) -> None:
        self.principal = principal
        self.address = address
        self.interruptible = interruptible
        self.ended: QuireError | None = None


class LiveRequests:
    """The live requests of one process, each with the task that answers it."""

    def __init__(
        self,
        authenticator: Authenticator,
        catch_up: Callable[[], Awaitable[None]],
        blocked: BlockedAddresses,
    ) -> None:
        self._authenticator = authenticator
        self._validity = authenticator.validity
        self._catch_up = catch_up
        self._blocked = blocked
        self._live: dict[asyncio.Task[object], LiveRequest] = {}
        self._announced = asyncio.Event()

    def add(
        self, principal: Principal, address: ClientAddress, *, interruptible: bool
    ) -> LiveRequest:
        """Add the request that the current task answers; it is removed when the task ends."""
        task = asyncio.current_task()
        assert task is not None
        live = LiveRequest(principal, address, interruptible=interruptible)
        self._live[task] = live
        task.add_done_callback(self._forget)
        return live

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._live.pop(task, None)

    def changed(self) -> None:
        """Look again soon: the change of a key or a block was announced."""
        self._announced.set()

    async def watch(self) -> None:
        """End the requests of keys that are no longer valid, and of blocked addresses, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._announced.wait()
            if self._announced.is_set():
                self._announced.clear()
                with contextlib.suppress(StorageError):  # the register is followed each second
                    await self._catch_up()
            self._end_blocked()
            await self._end_stale()

    def _end_blocked(self) -> None:
        for task, live in list(self._live.items()):
            if live.interruptible and live.ended is None:
                live.ended = self._blocked.refusal(live.address)
                if live.ended is not None:
                    task.cancel()

    async def _end_stale(self) -> None:
        stale = [
            (task, live)
            for task, live in self._live.items()
            if live.interruptible
            and live.ended is None
            and not self._validity.is_current(live.principal)
        ]
        if not stale:
            return
        changed = list({live.principal for _, live in stale})
        renewed = dict(
            zip(changed, await asyncio.gather(*map(self._renewed, changed)), strict=True)
        )
        for task, live in stale:
            now = renewed[live.principal]
            if task not in self._live:  # it was answered meanwhile
                continue
            if now is not None and now.admits(live.address):
                live.principal = now
            else:
                live.ended = no_longer_valid()
                task.cancel()

    async def _renewed(self, principal: Principal) -> Principal | None:
        """Return a principal whose key was changed as it is now; None if the key ended, or may have."""
        if self._validity.has_expired(principal):
            return None
        with contextlib.suppress(StorageError, QueueFull, TimeoutError):
            async with asyncio.timeout(RENEW_S):
                return await self._authenticator.renewed(principal)
        return None
