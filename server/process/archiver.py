"""The archiver: archives signed entries, shortly after the signer, until it is stopped.

Nothing here may stop appends. A failure is stored for the org's status, logged when it is new,
and retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Final

import structlog

from ledger.archive.writing.writer import ArchiveWriter, WrittenArchive
from ledger.core.lasting import GRACE_S, Lasting, LastingByKey
from ledger.core.register.reports import ForgedRowReports
from ledger.errors import (
    ArchiveDenied,
    ArchiveError,
    ArchiveMisconfigured,
    ArchiveUnavailable,
    ClockUnsteady,
    DatabaseAway,
    QuireError,
    StorageError,
)
from ledger.sealing import row_key
from ledger.storage import archive_accounts, archive_cost, listen, orgs
from ledger.storage.archive_accounts import ARCHIVER, ArchiveAccount, ArchiverLock
from ledger.storage.archive_cost import ArchiverCost
from ledger.storage.database import Database
from ledger.storage.trees import ANCHOR_LOG
from server.keys.first_start import load_master_key
from server.keys.keyring import LiveKeyring
from server.keys.own_keys import require_own_keys_in
from server.process.children.child import run_child, until_leading
from server.process.children.context import ProcessContext
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.archive_targets import named_target, policy_of
from server.trails.clock import ServerClock

log = structlog.get_logger("quire")

AGAIN_S: Final = 5.0
RETRY_S: Final = 60.0
"""Pause before an org that could not be archived is retried."""
POLL_INTERVAL_S: Final = 5.0
ACCOUNT_CPU_S: Final = 1.0
"""An archiver that writes nothing accounts for its polls once they took this much CPU."""
SWEEP_S: Final = 300.0
"""How often the newest account of every org is judged."""
ORGS_AT_ONCE: Final = 4
ACCOUNTS_AT_ONCE: Final = 4
"""Limit per org and turn, some 100,000 entries each, so that a long trail delays no other."""
MAX_REQUESTED: Final = 100_000
ID_DIGITS_MAX: Final = 10
_AFFECTS_ALL_ORGS: Final = (ArchiveUnavailable, ArchiveDenied, ArchiveMisconfigured, StorageError)
"""Errors that affect every org: logged once, not for each org."""
NICENESS: Final = 10
"""Appends have priority."""


class Archiver:
    """An archiver of one database: works while it holds the archiver's lock, else waits for it."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._url = database_url
        self._keyring: LiveKeyring | None = None
        self._requested: set[int] = set()
        self._wake = asyncio.Event()
        self._clock = ServerClock(settings)
        self._waits = Lasting("archiving waits", "archiving continues")
        self._away = Lasting(
            "archiving waits for the database", "archiving continues", grace_s=GRACE_S
        )
        self._target = Lasting("nothing is archived", "orgs are archived again")
        self._problems = LastingByKey("an org is not archived", "an org is archived again")
        self._anchored = self._swept = float("-inf")
        self._accounts: ArchiveAccount | None = None
        self._suspected: set[int] = set()
        self._away_in_turn = False
        self._cpu_s = time.process_time()
        self._objects = self._bytes = 0

    async def run(self) -> None:
        """Archive until cancelled."""
        following = asyncio.create_task(
            listen.follow(self._url, {archive_accounts.CHANNEL: self._on_request}, self._wake.set)
        )
        try:
            while True:
                try:
                    await self._lead()
                except StorageError as error:
                    self._away.failed(log.warning, str(error), early=log.info)
                except ArchiveError as error:
                    self._waits.failed(log.warning, str(error))
                except (QuireError, StartupRefused) as error:
                    self._waits.failed(log.error, str(error))
                await asyncio.sleep(AGAIN_S)
        finally:
            following.cancel()
            await asyncio.wait([following])

    def _on_request(self, payload: str) -> None:
        if (
            payload.isdecimal()
            and len(payload) <= ID_DIGITS_MAX
            and len(self._requested) < MAX_REQUESTED
        ):
            self._requested.add(int(payload))
        self._wake.set()

    async def _lead(self) -> None:
        lock = await ArchiverLock.connect(self._url)
        try:
            await until_leading(
                lock.take,
                lock.holder,
                work="archives the trails",
                application=ARCHIVER,
                again_s=AGAIN_S,
            )
            await self._archive(lock)
        finally:
            lock.close()

    async def _archive(self, lock: ArchiverLock) -> None:
        url = self._settings.archive_target
        assert url is not None, "the supervisor starts an archiver only where there is a target"
        if self._keyring is None:
            self._keyring = LiveKeyring.of(self._settings)
        database = await Database.open(self._url, size=ORGS_AT_ONCE + 1)
        try:
            await require_own_keys_in(database, self._settings)
            async with named_target(self._settings, url) as target:
                await target.check()
                log.info("archiving", target=url)
                policy = policy_of(self._settings)
                key = row_key(load_master_key(self._settings))
                forged = ForgedRowReports(database)
                self._accounts = ArchiveAccount(database, url, key, forged.found)
                writer = ArchiveWriter(
                    target, database, self._keyring, self._accounts, policy, self._clock.seconds
                )
                while await lock.take():
                    await self._clock.tick(database)
                    if self._clock.wall.leap is None:  # the locks of objects depend on the clock
                        await self._turn(database, url, writer)
                        await self._account(database, url)
                    self._waits.fine()
                    if not self._away_in_turn:
                        self._away.fine()
                    if self._requested:
                        continue
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(
                            min(self._settings.archive_seconds, POLL_INTERVAL_S)
                        ):
                            await self._wake.wait()
        finally:
            await database.close()

    async def _account(self, database: Database, url: str) -> None:
        """Add the cost since the last call to the target's account, if there was any."""
        now_s = time.process_time()
        spent = ArchiverCost(now_s - self._cpu_s, self._objects, self._bytes)
        if spent.objects or spent.cpu_seconds >= ACCOUNT_CPU_S:
            await archive_cost.add_cost(database, url, spent)
            self._cpu_s, self._objects, self._bytes = now_s, 0, 0

    async def _turn(self, database: Database, url: str, writer: ArchiveWriter) -> None:
        """Archive the orgs that are due, and those that were requested."""
        requested, self._requested = self._requested, set()
        self._wake.clear()
        self._away_in_turn = False
        # First, because nonces of orgs wait until the anchor log is archived.
        if requested or time.monotonic() - self._anchored >= self._settings.archive_seconds:
            self._anchored = time.monotonic()
            await self._archive_log(database, url, writer, ANCHOR_LOG)
        due = await archive_accounts.due(database, url, self._settings.archive_seconds, RETRY_S)
        requested |= await self._suspects()
        room = asyncio.Semaphore(ORGS_AT_ONCE)

        async def archive_log(org_id: int) -> None:
            async with room:
                await self._archive_log(database, url, writer, org_id)

        async with asyncio.TaskGroup() as group:
            for org_id in [*sorted(requested), *(org for org in due if org not in requested)]:
                group.create_task(archive_log(org_id))

    async def _suspects(self) -> set[int]:
        """Return the orgs that a row which no archiver wrote might keep from being due."""
        if self._accounts is not None and time.monotonic() - self._swept >= SWEEP_S:
            self._swept = time.monotonic()
            self._suspected = set(await self._accounts.forged())
        return self._suspected

    async def _archive_log(
        self, database: Database, url: str, writer: ArchiveWriter, org_id: int
    ) -> None:
        """Archive one log; a failure does not stop the others."""
        try:
            await self._write(database, writer, org_id)
        except ClockUnsteady:
            self._requested.add(org_id)
        except DatabaseAway as error:  # a restart of the database is no fault of the target
            self._away.failed(log.warning, str(error), early=log.info)
            self._away_in_turn = True
            if org_id == ANCHOR_LOG:
                self._anchored = float("-inf")
        except QuireError as error:
            reason = str(error)
            if isinstance(error, _AFFECTS_ALL_ORGS):
                self._target.failed(log.error, reason, org_id=org_id)
            else:
                self._problems.failed(org_id, log.error, reason, org_id=org_id)
            with contextlib.suppress(StorageError):
                await archive_accounts.keep_problem(database, url, org_id, reason)
        except Exception as error:  # noqa: BLE001 - it would end the others, and this process
            self._problems.failed(
                org_id, log.error, "a fault of the server", org_id=org_id, exc_info=error
            )
        else:
            self._problems.fine(org_id)
            self._target.fine()

    async def _write(self, database: Database, writer: ArchiveWriter, org_id: int) -> None:
        if org_id == ANCHOR_LOG:
            self._count(await writer.archive_anchors())
        elif (org := await orgs.org_by_id(database, org_id)) is not None:
            written = await writer.archive(org, ACCOUNTS_AT_ONCE)
            self._count(written)
            if not written.done:
                self._requested.add(org_id)  # the next turn continues, after the other orgs

    def _count(self, written: WrittenArchive) -> None:
        self._objects += written.objects
        self._bytes += written.bytes


def main(context: ProcessContext) -> None:
    """Run the archiver's process, which the supervisor starts."""
    os.nice(NICENESS)
    run_child(context, lambda context: Archiver(context.settings, context.database_url).run())
