"""A checkpointer in a test, as the signer's process has it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ledger.core.checkpointing import Checkpointer, Memory, Pace
from ledger.keys import SigningKeyring
from ledger.log_keys import KeySeeds, LogKeys, generate
from ledger.storage.signing import SignerConnection
from tests.support.trails import NOW_US, RING

ORIGIN = "quire.test/ledger"


def log_keys(number: int = 1) -> LogKeys:
    """Log keys of a test: the same number gives the same keys."""
    return generate(ORIGIN, KeySeeds(bytes([number]) * 32, bytes([number + 100]) * 32), NOW_US)


@asynccontextmanager
async def checkpointer(
    url: str,
    memory: Path,
    keys: LogKeys | None = None,
    *,
    keyring: SigningKeyring = RING,
    pace: Pace | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Checkpointer]:
    """A checkpointer that leads."""
    remembered = Memory(memory)
    try:
        async with SignerConnection.open(url) as connection:
            assert await connection.lead(), "another signer leads this database"
            pace = pace or Pace(retry_s=0)
            keys = keys or log_keys()
            yield Checkpointer(connection, keys, lambda _: keyring, remembered, pace, clock)
    finally:
        remembered.close()
