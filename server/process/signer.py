"""The signer: signs checkpoints and anchors about once a second, until it is told to end.

Nothing here may stop appends. What goes wrong is logged and tried again; a
doubt about a trail is the checkpointer's to act on, and told here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import structlog

from ledger.core.checkpointing import (
    MEMORY_FILE,
    AnchoringStopped,
    Checkpointer,
    RoundLimits,
    RoundReport,
    SignerMemory,
    SignerMemoryUnavailable,
)
from ledger.core.lasting import GRACE_S, Lasting, LastingByKey
from ledger.errors import ClockUnsteady, QuireError, StorageError
from ledger.storage.lock_waits import GrowingIntervals
from ledger.storage.log_keys import anything_signed, nothing_signed, publish_history
from ledger.storage.signing import APPLICATION, SignerConnection
from server.keys.first_start import load_log_keys
from server.keys.keyring import LiveKeyring
from server.keys.own_keys import require_own_keys_in
from server.process.attesting import AnchorAttesting
from server.process.child import work_as_told
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.clock import ServerClock

log = structlog.get_logger("quire")

AGAIN_S: Final = 1.0
SWEEP_S: Final = 30.0
PROGRESS_S: Final = 5.0
STOPPED_S: Final = 90.0
"""An org that was not stopped again for so long is signed: it is tried every 30 seconds."""


class SignerProcess:
    """One signer of one database: leads when no other does, and waits its turn otherwise."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._settings = settings
        self._url = database_url
        self._keyring: LiveKeyring | None = None
        self._stamp = self._look()
        self._clock = ServerClock(settings)
        self._waits = Lasting("checkpoints wait", "checkpoints are signed again")
        self._away = Lasting(
            "checkpoints wait for the database", "checkpoints are signed again", grace_s=GRACE_S
        )
        self._anchors = Lasting("anchors stopped", "anchors are signed again")
        self._stopped = LastingByKey(
            "checkpoints of an org stopped",
            "checkpoints of an org are signed again",
            quiet_s=STOPPED_S,
        )
        self._anchored = 0.0
        self._swept = 0.0
        self._told = 0.0

    async def run(self) -> None:
        """Sign for ever; cancel it to end."""
        while True:
            try:
                await self._lead()
            except StorageError as error:
                self._away.failed(log.warning, str(error), early=log.info)
            except SignerMemoryUnavailable as error:
                self._waits.failed(log.warning, str(error))
            except (QuireError, StartupRefused) as error:
                self._waits.failed(log.error, str(error))
            await asyncio.sleep(AGAIN_S)

    async def _lead(self) -> None:
        """Sign while this is the leader and the keys stay the same."""
        settings = self._settings
        if self._keyring is None:
            self._keyring = LiveKeyring.of(settings)
        async with SignerConnection.open(self._url) as connection:
            stood_by = False
            waiting = GrowingIntervals()
            while not await connection.lead():
                stood_by = True  # the other is in another process, or on another machine
                if waiting.due():
                    leader = await connection.leader()
                    # Another signer is as it should be; any other session's lock was left behind.
                    report = log.info if f'application "{APPLICATION}"' in leader else log.warning
                    report(
                        "checkpoints are signed by another process, and this one waits for its lock",
                        held_by=leader,
                        seconds=round(waiting.lasted_s),
                    )
                await asyncio.sleep(settings.checkpoint_seconds)
            await require_own_keys_in(connection, settings)
            before = self._look()
            new = await nothing_signed(connection)
            keys = load_log_keys(settings, log_is_new=new)
            self._stamp = (
                before or self._look()
            )  # a rotation since then is seen; a file just made is not one
            await publish_history(connection, keys.public())
            pace = RoundLimits(idle_s=settings.checkpoint_idle_seconds)
            log.info("signing checkpoints", origin=keys.origin, key=keys.active_id)
            with contextlib.closing(SignerMemory(settings.data_dir / MEMORY_FILE)) as memory:
                memory.belong(keys.public().keys[0].digest)
                if not memory and await anything_signed(connection):
                    # One that takes over from another machine has nothing to remember yet.
                    tell = log.info if stood_by else log.warning
                    tell(
                        "the signer remembers nothing of this database: another machine signed so "
                        "far, or its memory was lost. A rollback to before now goes unnoticed here",
                        memory=str(settings.data_dir / MEMORY_FILE),
                    )
                checkpointer = Checkpointer(
                    connection, keys, self._keyring, memory, pace, self._clock.seconds
                )
                self._swept = 0.0
                attesting = asyncio.create_task(
                    AnchorAttesting(settings, self._url, self._clock).run()
                )
                try:
                    while self._look() == self._stamp:
                        await self._clock.tick(connection)
                        await self._turn(checkpointer)
                        self._waits.fine()
                        self._away.fine()
                finally:
                    attesting.cancel()
                    await asyncio.wait([attesting])

    async def _turn(self, checkpointer: Checkpointer) -> None:
        began = time.monotonic()
        if began - self._swept >= SWEEP_S or not self._swept:
            self._swept = began
            self._tell(await checkpointer.sweep())
        report = await checkpointer.round()
        self._tell(report)
        if time.monotonic() - self._anchored >= self._settings.anchor_seconds:
            self._anchored = time.monotonic()
            await self._anchor(checkpointer)
        if not report.behind:
            took = time.monotonic() - began
            await asyncio.sleep(max(self._settings.checkpoint_seconds - took, 0.05))

    async def _anchor(self, checkpointer: Checkpointer) -> None:
        try:
            await checkpointer.anchor()
        except AnchoringStopped as error:
            self._anchors.failed(log.error, str(error))
        except ClockUnsteady:
            self._anchored = 0.0  # its time would stay: anchored as soon as the clock is right
        else:
            self._anchors.fine()

    def _tell(self, report: RoundReport) -> None:
        for org_id, slug, doubt in report.stopped:
            self._stopped.failed(org_id, log.error, str(doubt), org=slug, org_id=org_id)
        self._stopped.all_fine()
        if report.behind and time.monotonic() - self._told >= PROGRESS_S:
            self._told = time.monotonic()
            log.info("catching up", signed=report.entries, behind=report.behind)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._settings.log_keys_path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def main() -> None:
    """The signer's process, as the supervisor starts it."""
    work_as_told(lambda settings, database_url: SignerProcess(settings, database_url).run())
