"""The signer: signs checkpoints and anchors about once a second, until it is stopped.

Nothing here may stop appends. Failures are logged and retried. The checkpointer acts on doubts
about a trail; this module logs them.
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
from ledger.core.register.reports import NOT_AUTHENTIC
from ledger.errors import ClockUnsteady, QuireError, StorageError
from ledger.storage import security_events
from ledger.storage.log_keys import anything_signed, nothing_signed, publish_history
from ledger.storage.signing import APPLICATION, SignerConnection
from server.keys.first_start import load_log_keys
from server.keys.keyring import LiveKeyring
from server.keys.own_keys import require_own_keys_in
from server.process.attesting import AnchorAttesting
from server.process.children.child import run_child, until_leading
from server.process.children.context import ProcessContext
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.clock import ServerClock

log = structlog.get_logger("quire")

AGAIN_S: Final = 1.0
SWEEP_S: Final = 30.0
PROGRESS_S: Final = 5.0
STOPPED_S: Final = 90.0
"""An org that was not stopped for this long is signed again: it is retried every 30 seconds."""


class SignerProcess:
    """A signer of one database: signs while it is the leader, else waits to become it.

    ``signer_url`` is the URL of the signer's login, by which alone it connects.
    """

    def __init__(self, settings: Settings, signer_url: str) -> None:
        self._settings = settings
        self._url = signer_url
        self._keyring: LiveKeyring | None = None
        self._stamp = self._key_file_stamp()
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
        self._progress_logged = 0.0

    async def run(self) -> None:
        """Sign until cancelled."""
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
            # The other leader is in another process, or on another machine.
            stood_by = await until_leading(
                connection.lead,
                connection.leader,
                work="signs the checkpoints",
                application=APPLICATION,
                again_s=settings.checkpoint_seconds,
            )
            await require_own_keys_in(connection, settings)
            before = self._key_file_stamp()
            new = await nothing_signed(connection)
            await self._clock.tick(connection)
            keys = load_log_keys(settings, log_is_new=new, clock=self._clock)
            # The stamp from before the read detects a rotation during it; a file that was made
            # just now has none from before.
            self._stamp = before or self._key_file_stamp()
            aside = await publish_history(connection, keys.public())
            if aside is not None:
                log.error(aside)
                await security_events.add_once(connection, None, NOT_AUTHENTIC, aside)
            pace = RoundLimits(idle_s=settings.checkpoint_idle_seconds)
            log.info("signing checkpoints", origin=keys.origin, key=keys.active_id)
            with contextlib.closing(SignerMemory(settings.data_dir / MEMORY_FILE)) as memory:
                memory.belong(keys.public().keys[0].digest)
                if not memory and await anything_signed(connection):
                    # A signer that takes over from another machine has an empty memory.
                    report = log.info if stood_by else log.warning
                    report(
                        "the signer's memory of this database is empty: another machine signed so "
                        "far, or the memory was lost. A rollback to before now is not detected here",
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
                    while self._key_file_stamp() == self._stamp:
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
            self._log_report(await checkpointer.sweep())
        report = await checkpointer.round()
        self._log_report(report)
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
            self._anchored = 0.0  # its time is permanent: anchor as soon as the clock is right
        else:
            self._anchors.fine()

    def _log_report(self, report: RoundReport) -> None:
        for org_id, slug, doubt in report.stopped:
            self._stopped.failed(org_id, log.error, str(doubt), org=slug, org_id=org_id)
        self._stopped.all_fine()
        if report.behind and time.monotonic() - self._progress_logged >= PROGRESS_S:
            self._progress_logged = time.monotonic()
            log.info("catching up", signed=report.entries, behind=report.behind)

    def _key_file_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._settings.log_keys_path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def main(context: ProcessContext) -> None:
    """Run the signer's process, which the supervisor starts."""
    run_child(context, lambda context: SignerProcess(context.settings, context.database_url).run())
