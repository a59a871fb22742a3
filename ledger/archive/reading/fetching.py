"""Reads many objects of a target, blocking: for a process without other work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final, Protocol

from ledger.archive.targets import Target, TargetSettings, open_target
from ledger.archive.targets.folder import FolderTarget, ReadingFolder
from ledger.errors import ArchiveMismatch, ArchiveObjectMissing

AT_ONCE: Final = 32
"""Objects requested at once, where each needs a round trip."""
NAMES_MAX: Final = 65_536
"""The most keys of one listing: more than the packs that one bundle can have."""


class Fetch(Protocol):
    """Reads objects. Raises the target's errors where the target can't be read."""

    def __call__(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        """Return the objects under these keys, in their order.

        None stands for an object that is missing or longer than ``limit`` bytes: a fault of
        that object alone.
        """

    def names(self, prefix: str) -> Sequence[str]:
        """Return the keys that begin with ``prefix``, at most NAMES_MAX."""


class FromFolder:
    """Implements `Fetch` on a folder, without threads: reading a file takes microseconds."""

    def __init__(self, reading: ReadingFolder) -> None:
        self._reading = reading

    def __call__(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        return [self._one(key, limit) for key in keys]

    def _one(self, key: str, limit: int) -> bytes | None:
        try:
            return self._reading.read(key, limit)
        except ArchiveMismatch:
            return None

    def names(self, prefix: str) -> Sequence[str]:
        return self._reading.names(prefix, NAMES_MAX)


class FromTarget:
    """Implements `Fetch` on any target, on an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, target: Target) -> None:
        self._runner = runner
        self._target = target

    def __call__(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        return self._runner.run(self._all(keys, limit))

    def names(self, prefix: str) -> Sequence[str]:
        return self._runner.run(self._names(prefix))

    async def _names(self, prefix: str) -> list[str]:
        names: list[str] = []
        async for listed in self._target.list(prefix):
            names.append(listed.key)
            if len(names) == NAMES_MAX:
                break
        return names

    async def _all(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(key: str) -> bytes | None:
            async with room:
                try:
                    return await self._target.get(key, limit)
                except (ArchiveObjectMissing, ArchiveMismatch):
                    return None

        return list(await asyncio.gather(*map(one, keys)))


@contextmanager
def fetching(url: str, settings: TargetSettings) -> Iterator[Fetch]:
    """Open a target for blocking reads, outside of any event loop."""
    target = open_target(url, settings)
    if isinstance(target, FolderTarget):
        with closing(target.reading()) as reading:
            yield FromFolder(reading)
        return
    with asyncio.Runner() as runner:
        runner.run(target.__aenter__())
        try:
            yield FromTarget(runner, target)
        finally:
            runner.run(target.__aexit__(None, None, None))
