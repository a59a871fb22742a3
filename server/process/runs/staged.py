"""Stages the start and the stop of a server for the trail `system`, where workers tell them.

Neither may hinder the server: a start or stop that can't be staged is logged. Without the row of its
stop, the next start says that nobody knows how this run ended.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Final, NamedTuple

import structlog

from ledger import __version__, sealing
from ledger.blocks.block import SYSTEM_ORG
from ledger.errors import QuireError
from ledger.storage import orgs
from ledger.storage.database import Database
from ledger.storage.pending_acts import PendingActs
from server.app.features import FEATURES
from server.feature import added_settings
from server.process.runs.ending import EndSignal
from server.settings import Settings
from server.settings.told import told_settings
from server.trails.own.server_runs import Act, Reason, StartedRun, StoppedRun, run_row

log = structlog.get_logger("quire")

STAGE_S: Final = 2.0
"""How long a start or a stop waits for the database at most."""
RUN_BYTES: Final = 8
HOST_CHARS: Final = 255


class ServedRun(NamedTuple):
    """One run of this server, and what its rows need."""

    id: str
    host: str
    row_key: bytes


async def stage_start(settings: Settings, master_key: bytes, database: Database) -> ServedRun:
    """Stage the start of this server; return its run."""
    host = os.fsencode(socket.gethostname()).decode("utf-8", "backslashreplace")[:HOST_CHARS]
    run = ServedRun(secrets.token_hex(RUN_BYTES), host, sealing.row_key(master_key))
    key = sealing.settings_key(master_key)
    told = told_settings(settings, added_settings(FEATURES), key)
    await _stage(database, run, StartedRun(run.id, host, __version__, settings.workers, told))
    return run


@contextmanager
def stop_staged(run: ServedRun, url: str, ending: EndSignal) -> Iterator[None]:
    """Stage the stop of a run after the block, within ``STAGE_S``."""
    try:
        yield
    finally:
        # A thread of its own, as a name server or a lock may keep the loop from ending.
        work = _stage_stop(run, url, ending.reason)
        thread = Thread(target=asyncio.run, args=(work,), name="stage-stop", daemon=True)
        thread.start()
        thread.join(STAGE_S)
        if thread.is_alive():
            log.warning("the stop of this server is not recorded: the database does not answer")


async def _stage_stop(run: ServedRun, url: str, reason: Reason) -> None:
    try:
        database = await Database.open(url, size=1, name="quire stop")
    except QuireError as error:
        log.warning("the stop of this server is not recorded", reason=str(error))
        return
    try:
        await _stage(database, run, StoppedRun(run.id, run.host, reason))
    finally:
        await database.close()


async def _stage(database: Database, run: ServedRun, act: Act) -> None:
    """Store an act as a row that waits; log why that can't be done."""
    try:
        async with asyncio.timeout(STAGE_S):
            await _store(database, run, act)
    except TimeoutError:
        log.warning("a start or stop is not recorded: the database does not answer")
    except QuireError as error:
        log.warning("a start or stop is not recorded", reason=str(error))


async def _store(database: Database, run: ServedRun, act: Act) -> None:
    system = await orgs.org_by_slug(database, SYSTEM_ORG)
    if system is None:
        log.warning("a start or stop is not recorded: the org system has no row")
        return
    row = run_row(system.id, datetime.now(UTC), act)
    if not await PendingActs(database, run.row_key).add_bounded(row):
        log.warning("a start or stop is not recorded: too many wait to be told")
