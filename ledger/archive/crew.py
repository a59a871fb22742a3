"""Worker processes of a verification: each opens the target itself and checks what it is given."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, asynccontextmanager
from multiprocessing import get_context
from typing import Final

import msgspec

from ledger.archive.blocks import Block, Checked, check_block
from ledger.archive.extras import Extras, check_extras
from ledger.archive.fetching import Fetch, fetching
from ledger.archive.targets import TargetSettings
from ledger.errors import ArchiveUnavailable
from ledger.keys import SigningKey, SigningKeyring

Work = Block | Extras
WATCH_S: Final = 0.5


class Gear(msgspec.Struct, frozen=True):
    """What a worker needs once: where the target is, and the entries' signing keys if any."""

    url: str
    settings: TargetSettings
    keys: tuple[tuple[str, bytes], ...] = ()

    def __repr__(self) -> str:
        return f"Gear({self.url!r})"  # the rest holds secrets

    def keyring(self) -> SigningKeyring | None:
        keys = [SigningKey(key_id, secret) for key_id, secret in self.keys]
        return SigningKeyring(keys, [keys[0].key_id]) if keys else None


class Worker:
    """Does the work in this process."""

    def __init__(self, gear: Gear) -> None:
        self._open = ExitStack()
        self._fetch: Fetch = self._open.enter_context(fetching(gear.url, gear.settings))
        self._keyring = gear.keyring()

    def check(self, work: Work) -> Checked:
        """Check a block of tiles, or other objects. Raises the target's errors."""
        if isinstance(work, Block):
            return check_block(self._fetch, work, self._keyring)
        return check_extras(self._fetch, work, self._keyring)

    def close(self) -> None:
        self._open.close()


class Crew:
    """Checks several at a time."""

    def __init__(self, pool: Executor, check: Callable[[Work], Checked], room: int) -> None:
        self._pool = pool
        self._check = check
        self._room = asyncio.Semaphore(room)

    async def check(self, work: Work) -> Checked:
        """What is found. Raises the target's errors, ArchiveUnavailable for a lost process."""
        loop = asyncio.get_running_loop()
        async with self._room:
            try:
                return await loop.run_in_executor(self._pool, self._check, work)
            except BrokenProcessPool as error:
                raise ArchiveUnavailable(
                    "a process that verified the archive ended before its work was done; was it "
                    "killed, or is the machine out of memory?"
                ) from error


@asynccontextmanager
async def crew(gear: Gear, processes: int) -> AsyncIterator[Crew]:
    """So many processes; with 0 the work is done in a thread of this one."""
    if processes == 0:
        async with _thread(gear) as alone:
            yield alone
        return
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(gear, os.getpid())
    )
    try:
        yield Crew(pool, _check, 2 * processes)
    finally:
        await asyncio.to_thread(pool.shutdown, cancel_futures=True)


@asynccontextmanager
async def _thread(gear: Gear) -> AsyncIterator[Crew]:
    """One thread, to which the worker's event loop belongs."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        worker = await loop.run_in_executor(thread, Worker, gear)
        try:
            yield Crew(thread, worker.check, 1)
        finally:
            await loop.run_in_executor(thread, worker.close)


_workers: list[Worker] = []


def _begin(gear: Gear, parent: int) -> None:
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    _workers.append(Worker(gear))


def _follow(parent: int) -> None:
    """End when the verification is gone: its pipe alone would not tell."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def _check(work: Work) -> Checked:
    return _workers[0].check(work)
