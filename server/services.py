"""What the routes of one server process work with, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from ledger.archive.past import ArchivePast
from ledger.archive.qwed_rows import QwedRowFinder
from ledger.archive.trail import TrailReader
from ledger.core.bundling import BundleBuilder
from ledger.core.lasting import GRACE_S, Lasting
from ledger.core.proving import Prover
from ledger.core.sealer import Sealer
from ledger.core.sequencer import BatchReport, Limits, Sequencer
from ledger.core.verification.archive_at import ArchiveAt
from ledger.core.verification.jobs import VerificationJobs
from ledger.core.verification.limits import SigningLimits
from ledger.errors import ClockUnsteady, DatabaseUnavailable
from ledger.keys import SigningKeyring
from ledger.storage import listen, migrate, partitions
from ledger.storage.database import Database
from ledger.storage.verifications import VerificationTable
from server import metrics
from server.access.auth import Authenticator
from server.access.directory import Directory
from server.keys.first_start import Secrets
from server.keys.log_trust import TrustSource
from server.keys.own_keys import require_own_keys_in
from server.settings import Settings
from server.trails.appending import Appender, Intake
from server.trails.archive_targets import target_settings
from server.trails.bodies import Bodies
from server.trails.clock import ServerClock
from server.trails.entry_bundles import EntryBundles
from server.trails.growth import Growth
from server.trails.guarding import Guard
from server.trails.retaining import Retaining

log = structlog.get_logger("quire")

UPKEEP_S: Final = 3_600
UPKEEP_AGAIN_S: Final = 60


def _limits(settings: Settings) -> SigningLimits:
    """How long entries may wait: the limit, and what signing, anchoring, stamping take anyway."""
    signing_s = settings.signing_limit_seconds + settings.checkpoint_seconds
    anchoring_s = signing_s + settings.anchor_seconds
    return SigningLimits(signing_s, anchoring_s, anchoring_s + settings.tsa_seconds)


class Services:
    """Everything a request may need; create with :meth:`open`."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        clock: ServerClock,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.database = database
        self.keyring = keyring
        self.sealer = Sealer(database, secrets.master_key)
        self.sequencer = Sequencer(
            database,
            keyring,
            limits=Limits(org_events=settings.queue_events),
            clock=clock,
            observe=self._observe,
        )
        self.appender = Appender(
            self.sequencer,
            self.sealer,
            secrets.master_key,
            Intake(settings.max_events, settings.max_payload_bytes),
        )
        self.authenticator = Authenticator(database, secrets.master_key)
        self.directory = Directory(database, secrets.master_key)
        self.guard = Guard(database, self.sequencer, self.sealer)
        self.trust = TrustSource(settings)
        self.limits = _limits(settings)
        self.verifications = VerificationJobs(
            VerificationTable(database),
            database.url,
            lambda: keyring(True),
            self.guard.faults_found,
            trust=lambda target: self.trust.of(target.org_id, target.org),
            archive=None
            if settings.archive_target is None
            else ArchiveAt(settings.archive_target, target_settings(settings)),
            limits=self.limits,
        )
        self.bodies = Bodies()
        self.growth = Growth(database)
        self.prover = Prover(database)
        past = ArchivePast(database, settings.archive_target, target_settings(settings))
        self.trail = TrailReader(database, past)
        self.qwed_rows = QwedRowFinder(database, self.trail)
        self.entry_bundles = EntryBundles(self.trail.leaves)
        self.bundles = BundleBuilder(
            database, self.trail, self.sealer, at_once=settings.bundles_at_once
        )
        self.retaining = Retaining(settings, database, keyring, self.directory, self.guard, clock)
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        settings: Settings,
        secrets: Secrets,
        database_url: str,
        keyring: Callable[[bool], SigningKeyring],
    ) -> Services:
        """Connect and start; raises MigrationError where the schema is not this code's."""
        database = await Database.open(database_url, size=settings.pool_size)
        try:
            await migrate.require_current(database)
            await require_own_keys_in(database, settings, secrets)
            clock = ServerClock(settings, reports=True)
            await clock.compare(database)
            with contextlib.suppress(ClockUnsteady):  # the upkeep does it when the clock is right
                await partitions.prepare(database, clock.moment())
            services = cls(settings, secrets, database, keyring, clock)
            await services.sequencer.connect()
        except BaseException:
            await database.close()
            raise
        services._start()
        return services

    def _start(self) -> None:
        self.sequencer.start()
        self.verifications.start()
        self._tasks = [
            asyncio.create_task(self.clock.watch(self.database), name="clock"),
            asyncio.create_task(self._upkeep(), name="upkeep"),
            asyncio.create_task(self.bodies.watch(), name="slow bodies"),
            asyncio.create_task(
                listen.follow(
                    self.database.url,
                    {
                        "quire_keys": self.authenticator.forget,
                        "quire_orgs": self.directory.forget_public,
                        "quire_checkpoints": self.growth.announced,
                    },
                    self._missed_notifications,
                ),
                name="notifications",
            ),
            asyncio.create_task(self.growth.watch(), name="signed trees"),
        ]
        if self.settings.retention_months is not None:
            watch = self.retaining.watch()
            self._tasks.append(asyncio.create_task(watch, name="retention"))

    def _missed_notifications(self) -> None:
        self.authenticator.forget_all()
        self.directory.forget_all_public()
        self.growth.announced("")

    async def close(self) -> None:
        """Drain the sequencer within the shutdown limit, then let go of everything."""
        await self.sequencer.close(self.settings.shutdown_seconds)
        await self.verifications.close()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.clock.close(self.database)
        await self.trail.close()
        await self.database.close()

    async def _upkeep(self) -> None:
        """Partitions ahead of time, old ones sealed or dropped; a missed hour harms nothing."""
        trouble = Lasting("upkeep failed and is tried again", "upkeep works again", grace_s=GRACE_S)
        while True:
            pause_s: float = UPKEEP_S
            try:
                await partitions.prepare(self.database, self.clock.moment())
                # What is sealed or dropped stays so: a clock that is wrong must not decide it.
                days = self.settings.idempotency_days
                await partitions.retire(self.database, self.clock.settled(), days)
            except ClockUnsteady as error:
                pause_s = min(error.retry_after, UPKEEP_S)
            except DatabaseUnavailable as error:
                trouble.failed(log.warning, str(error), early=log.info)
                pause_s = UPKEEP_AGAIN_S
            else:
                trouble.fine()
            await asyncio.sleep(pause_s)

    def _observe(self, report: BatchReport) -> None:
        metrics.observe_batch(report.entries, report.seconds)
        for org, reason in report.frozen:
            metrics.FROZEN.inc()
            log.error(
                "org frozen: its trail failed the check before an append", org=org, reason=reason
            )
