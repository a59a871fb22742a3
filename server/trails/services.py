"""The services that the routes of one server process use, opened and closed together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from ledger.core.bundling import BundleBuilder
from ledger.core.lasting import Lasting
from ledger.core.proving import Prover
from ledger.core.reading.index_reports import IndexReports
from ledger.core.reading.past import ArchivePast
from ledger.core.reading.qwed_rows import QwedRowFinder
from ledger.core.reading.trail import TrailReader
from ledger.core.register import Register
from ledger.core.sealing.opener import closed_people
from ledger.core.sealing.sealer import Sealer, new_org_key
from ledger.core.sequencer import (
    AcknowledgedHeads,
    BatchReport,
    HeadMemoryUnavailable,
    Sequencer,
    SequencerHooks,
    SequencerLimits,
)
from ledger.core.verification.jobs import VerificationJobs
from ledger.core.verification.work.crew import ArchiveAt
from ledger.core.verification.work.extent import SigningLimits
from ledger.core.verification.work.row_check import RowTrust
from ledger.errors import ClockUnsteady, QuireError, StorageError
from ledger.intake import IntakeLimits
from ledger.keys import SigningKeyring
from ledger.sealing import address_key, index_key, row_key
from ledger.storage import migrate, partitions
from ledger.storage.archive_accounts import ArchiveAccount
from ledger.storage.database import Database
from ledger.storage.log_keys import PublishedKeys
from ledger.storage.orgs import any_org
from ledger.storage.pending_acts import PendingActs
from ledger.storage.sealed_events import UnsealedEvents
from ledger.storage.verifications import VerificationTable
from server import metrics
from server.access.administration import Administration
from server.access.auth import Authenticator
from server.access.callers.blocked import BlockedAddresses, never_blocked
from server.access.callers.watch import CallerWatch
from server.access.directory import Directory
from server.access.keys.changes import KeyChanges
from server.access.keys.endings import KeyEndings
from server.access.keys.refused_addresses import RefusedAddresses
from server.access.keys.usage import KeyUsage
from server.access.limits.changes import LimitChanges
from server.access.limits.quotas import Quotas
from server.access.limits.rates import RateLimits
from server.access.limits.settings import LimitSettings
from server.access.live import LiveRequests
from server.access.principal import KeyValidity
from server.access.settings import AccessSettings
from server.addresses import networks
from server.feature import load
from server.keys.first_start import ServerSecrets
from server.keys.head_memory import open_heads
from server.keys.log_trust import TrustSource
from server.keys.own_keys import check_values, require_own_keys_in
from server.settings import Settings
from server.trails.appending import Appender
from server.trails.archive_targets import target_settings
from server.trails.clock import ServerClock
from server.trails.entry_bundles import EntryBundles
from server.trails.guarding import TrailGuard
from server.trails.own.earlier_runs import EarlierRuns
from server.trails.own.recorder import ActRecorder
from server.trails.own.sealing import EventSealing
from server.trails.own.verdicts import note_verification
from server.trails.own.writing import OwnEntries
from server.trails.signed.growth import TreeGrowthWaiters
from server.trails.signed.lateness import SigningWatch
from server.trails.signed.stops import SignerFreezes

log = structlog.get_logger("quire")

T = TypeVar("T")

AGAIN_S: Final = 1.0
SILENT_S: Final = 60.0
"""A task that did not fail for this long counts as recovered."""


def _limits(settings: Settings) -> SigningLimits:
    """Return how long entries may wait: the limit plus the usual time of each step."""
    signing_s = settings.signing_limit_seconds + settings.checkpoint_seconds
    anchoring_s = signing_s + settings.anchor_seconds
    return SigningLimits(signing_s, anchoring_s, anchoring_s + settings.tsa_seconds)


class Services:
    """The services of one process; create with :meth:`open`."""

    def __init__(
        self,
        settings: Settings,
        secrets: ServerSecrets,
        database: Database,
        keyring: Callable[[bool], SigningKeyring],
        clock: ServerClock,
        heads: AcknowledgedHeads,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.database = database
        self.keyring = keyring
        self.heads = heads
        rows = self._row_key = row_key(secrets.master_key)
        self.address_key = address_key(secrets.master_key)
        self.register = Register(database, keyring, rows, heads.get)
        self.sealer = Sealer(database, secrets.master_key, self.register)
        self.lateness = SigningWatch(settings, database, rows)
        self.sequencer = self._sequencer()
        self.appender = self._appender(secrets.master_key)
        self.quotas = Quotas(database, rows)
        self.limits = self._rate_limits()
        self.forged_rows = self.register.reports
        validity = KeyValidity(self.register, clock.wall.unbroken_us)
        self.administration = Administration(
            database,
            self.sequencer,
            validity,
            lambda slug: new_org_key(secrets.master_key, slug),
        )
        self.signer_freezes = SignerFreezes(database, self.register, self.sequencer)
        self.key_changes = KeyChanges(self.administration, settings.of(AccessSettings).max_keys)
        self.limit_changes = LimitChanges(self.administration)
        self.authenticator = Authenticator(database, secrets.master_key, validity)
        self.key_uses = KeyUsage(database, validity.now_us)
        self.refused_addresses = RefusedAddresses(database)
        self.key_endings = KeyEndings(database, self.register)
        self.blocked = BlockedAddresses(
            self.register, self.address_key, never_blocked(settings), validity.now_us
        )
        self.live = LiveRequests(self.authenticator, self.register.catch_up, self.blocked)
        self.directory = Directory(database, self.register)
        self.guard = TrailGuard(database, self.sequencer, self.sealer, self.administration)
        self.sealing = self._sealing()
        self.recorder = ActRecorder()
        self.callers = CallerWatch(self.register)
        self.trust = TrustSource(settings)
        self.published_keys = PublishedKeys(
            database, self.trust.statements, lambda what: self.forged_rows.found(None, what)
        )
        self.signing_limits = _limits(settings)
        self.verification_table = VerificationTable(database, self._row_key)
        self.verifications = self._verifications(secrets.master_key)
        self.growth = TreeGrowthWaiters(database)
        self.prover = Prover(database)
        self.trail = self._trail(secrets.master_key)
        self.qwed_rows = QwedRowFinder(database, self.trail)
        self.entry_bundles = EntryBundles(self.trail.leaves)
        self.bundles = BundleBuilder(
            database, self.trail, self.sealer, at_once=settings.bundles_at_once
        )
        self.own = self._own_entries()
        self._parts: dict[Callable[[Services], Any], Any] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def _rate_limits(self) -> RateLimits:
        trusted = networks(self.settings.trusted_proxies)
        of = self.settings.of(LimitSettings)
        return RateLimits(self.database, self.register, of, trusted)

    def _sealing(self) -> EventSealing:
        return EventSealing(
            UnsealedEvents(self.database),
            self.guard,
            self.directory,
            self.sealer,
            self.settings.own_entries_seconds,
        )

    def _own_entries(self) -> OwnEntries:
        return OwnEntries(
            self.recorder,
            PendingActs(self.database, self._row_key),
            self.guard,
            self.directory,
            self.trail,
            self.sealer,
            EarlierRuns(self.trail, self.sealer, self.keyring),
            self.settings.own_entries_seconds,
        )

    def _sequencer(self) -> Sequencer:
        hooks = SequencerHooks(self._observe, metrics.count_mishap, self.lateness.acknowledged)
        return Sequencer(
            self.database,
            self.keyring,
            self._row_key,
            register=self.register,
            limits=SequencerLimits(org_events=self.settings.queue_events),
            clock=self.clock.wall,
            hooks=hooks,
            memory=self.heads,
        )

    def _appender(self, master_key: bytes) -> Appender:
        limits = IntakeLimits(self.settings.max_events, self.settings.max_payload_bytes)
        late = self.lateness.require_signed
        return Appender(self.sequencer, self.sealer, master_key, limits, late)

    def _trail(self, master_key: bytes) -> TrailReader:
        target = self.settings.archive_target
        past = ArchivePast(self.database, target, target_settings(self.settings))
        return TrailReader(
            self.database, past, IndexReports(self.database).index(index_key(master_key))
        )

    def _verifications(self, master_key: bytes) -> VerificationJobs:
        """Return the jobs of verification, with all that a verdict is compared with."""
        target, keyring = self.settings.archive_target, self.keyring
        return VerificationJobs(
            self.verification_table,
            self.database.url,
            lambda: keyring(True),
            self.guard.faults_found,
            self.forged_rows,
            trust=lambda of: self.trust.of(of.org_id, of.org),
            archive=None if target is None else ArchiveAt(target, target_settings(self.settings)),
            limits=self.signing_limits,
            acknowledged=self.heads.get,
            index_key=index_key(master_key),
            on_end=partial(note_verification, self.recorder, self.callers.traffic),
            rows=lambda: RowTrust(
                self._row_key,
                partial(closed_people, master_key),
                self.trust.statements() or None,
                check_values(master_key, keyring(True)),
                self.register,
            ),
            events=self.sealing.trust,
        )

    @classmethod
    async def open(
        cls,
        settings: Settings,
        secrets: ServerSecrets,
        database_url: str,
        keyring: Callable[[bool], SigningKeyring],
        tasks: Iterable[str] = (),
    ) -> Services:
        """Connect, and start these tasks too.

        Raises MigrationError if the schema is of another version of this code.
        """
        database = await Database.open(database_url, size=settings.pool_size)
        try:
            await migrate.require_current(database)
            await require_own_keys_in(database, settings, secrets)
            clock = ServerClock(settings, reports=True)
            await clock.compare(database)
            with contextlib.suppress(
                ClockUnsteady
            ):  # the upkeep task does it when the clock is right
                await partitions.prepare(database, clock.moment())
            has_orgs = await any_org(database)
            heads = open_heads(settings, secrets.master_key, has_orgs=has_orgs)
            services = cls(settings, secrets, database, keyring, clock, heads)
            await services.sequencer.connect()
            await services.administration.begin()
        except BaseException:
            await database.close()
            raise
        services._start(tasks)
        return services

    def archived(self, target: str) -> ArchiveAccount:
        """Return the accounts of what is archived in a target."""
        return ArchiveAccount(self.database, target, self._row_key, self.forged_rows.found)

    def part(self, make: Callable[[Services], T]) -> T:
        """Return a domain's own services of this process, made once, at first use."""
        if make not in self._parts:
            self._parts[make] = make(self)
        part: T = self._parts[make]
        return part

    def _start(self, tasks: Iterable[str]) -> None:
        self.sequencer.start()
        self.verifications.start()
        self._tasks = [asyncio.create_task(self._keep(task), name=task) for task in tasks]

    async def _keep(self, task: str) -> None:
        """Run a task until it is done or cancelled; log a failure and start the task again."""
        trouble = Lasting(
            f"{task} failed and is started again", f"{task} runs again", silent_s=SILENT_S
        )
        while True:
            try:
                await load(task)(self)
            except Exception as error:  # noqa: BLE001 - a task's exception is reported only here
                trouble.failed(log.error, "a fault of the server", exc_info=error)
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def close(self) -> None:
        """Drain the sequencer within the shutdown limit, then close everything."""
        await self.sequencer.close(self.settings.shutdown_seconds)
        await self.verifications.close()
        await self.appender.parsers.close()
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(StorageError):  # uses of the last minute
            await self.key_uses.store()
        with contextlib.suppress(QuireError):  # a crash would lose the same
            await self.own.flush()
        with contextlib.suppress(QuireError):  # what was used in the last second
            await self.limits.fast.tell()
        await self.clock.close(self.database)
        await self.trail.close()
        with contextlib.suppress(HeadMemoryUnavailable):  # the kernel writes it later
            await asyncio.to_thread(self.heads.sync)
        self.heads.close()
        await self.database.close()

    def _observe(self, report: BatchReport) -> None:
        for org, reason in report.frozen:  # logged first: a metric may raise
            log.error(
                "org frozen: its trail failed the check before an append", org=org, reason=reason
            )
        if report.frozen:
            metrics.FROZEN.inc(len(report.frozen))
        metrics.ENTRIES.inc(report.entries)
        metrics.TRANSACTIONS.inc()
        metrics.BATCH_ENTRIES.observe(report.entries)
        metrics.BATCH_SECONDS.observe(report.seconds)
