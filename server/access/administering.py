"""Opens an administration outside of a worker: at the start of a server, and in commands."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from ledger.core.register import Register
from ledger.core.sealing.sealer import new_org_key
from ledger.core.sequencer import AcknowledgedHeads, Sequencer, SequencerLimits
from ledger.keys import SigningKeyring
from ledger.sealing import row_key
from ledger.storage.clock import now_us
from ledger.storage.database import Database
from server.access.administration import Administration
from server.access.principal import KeyValidity

CLOSE_S: Final = 5.0


@asynccontextmanager
async def administering(
    database: Database,
    keyring: Callable[[bool], SigningKeyring],
    master_key: bytes,
    heads: AcknowledgedHeads | None,
    *,
    adopts: bool = False,
    compares: bool = True,
    clock: Callable[[], int] | None = None,
) -> AsyncIterator[Administration]:
    """Yield an administration that is open, with its sequencer; ``clock`` is by default the database's.

    If it ``adopts``, it makes the org `system` in a database that has other orgs. Raises
    RegisterMissing, RegisterCut, DatabaseUnavailable.

    ``heads`` is the file of acknowledged heads. None: this is a restore, after which the loss of what
    was not restored is accepted. Without ``compares`` a trail `system` that lost entries is opened too.
    """
    rows, clock = row_key(master_key), clock or await _clock_of(database)
    register = (
        Register(database, keyring, rows, heads.get)
        if compares and heads is not None
        else Register(database, keyring, rows)
    )
    sequencer = Sequencer(
        database,
        keyring,
        rows,
        register=register,
        limits=SequencerLimits(committers=1),
        clock=clock,
        memory=heads,
    )
    sequencer.start()
    validity = KeyValidity(register, clock)
    administration = Administration(
        database, sequencer, validity, lambda slug: new_org_key(master_key, slug)
    )
    try:
        await administration.begin(adopts=adopts)
        yield administration
    finally:
        await sequencer.close(CLOSE_S)


async def _clock_of(database: Database) -> Callable[[], int]:
    """Return a clock that goes on from the database's time, µs since the Unix epoch."""
    ahead_us = await now_us(database) - time.monotonic_ns() // 1_000
    return lambda: time.monotonic_ns() // 1_000 + ahead_us
