"""The signer's other task: requests timestamps and cosignatures of anchors; never delays signing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import structlog

from ledger.core.attesting.anchors import AnchorAttestation, Attested
from ledger.core.lasting import GRACE_S, Lasting, LastingByKey
from ledger.errors import ClockUnsteady, DatabaseAway, QuireError
from ledger.storage.database import SIGNER_ROLE, Database
from server.keys.attestors import attestors
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.clock import ServerClock

log = structlog.get_logger("quire")

AGAIN_S: Final = 10.0
POLL_INTERVAL_S: Final = 1.0
"""Short, because a bundle of new entries waits for the cosignatures of their anchor."""
RENEW_INTERVAL_S: Final = 3_600.0


class AnchorAttesting:
    """Requests attestations from the authority and the witnesses of the settings."""

    def __init__(self, settings: Settings, database_url: str, clock: ServerClock) -> None:
        self._settings = settings
        self._clock = clock
        self._url = database_url
        self._stamped = float("-inf")
        self._renewed = float("-inf")
        self._waits = LastingByKey("attestations wait", "attestations are made again")
        self._away = Lasting(
            "attestations wait for the database", "attestations are made again", grace_s=GRACE_S
        )

    async def run(self) -> None:
        """Run until cancelled; return at once if the settings name no attestor."""
        if self._settings.tsa_url is None and self._settings.witness_policy is None:
            return
        while True:
            try:
                await self._attest()
            except DatabaseAway as error:
                self._away.failed(log.warning, str(error), early=log.info)
            except (QuireError, StartupRefused) as error:
                self._waits.failed("", log.warning, str(error))
            except Exception as error:  # noqa: BLE001 - it would end all attesting, unnoticed
                self._waits.failed("", log.error, "a fault of the server", exc_info=error)
            await asyncio.sleep(AGAIN_S)

    async def _attest(self) -> None:
        database = await Database.open(self._url, size=2, role=SIGNER_ROLE)
        try:
            async with attestors(self._settings) as named:
                attestation = AnchorAttestation(database, named.tsa, named.witnesses)
                while True:
                    troubled = await self._turn(attestation)
                    wait_s = AGAIN_S if troubled else POLL_INTERVAL_S
                    await asyncio.sleep(min(self._settings.anchor_seconds, wait_s))
        finally:
            await database.close()

    async def _turn(self, attestation: AnchorAttestation) -> bool:
        """Run one turn; return True if an attestor failed, so that the next turn comes later."""
        now = time.monotonic()
        stamp = now - self._stamped >= self._settings.tsa_seconds
        done = await attestation.attest(stamp=stamp)
        if done.tokens:
            self._stamped = now
        self._report(done)
        if now - self._renewed >= RENEW_INTERVAL_S:
            with contextlib.suppress(ClockUnsteady):  # with a wrong clock all tokens could look old
                self._clock.settled()
                self._renewed = now
                self._report(await attestation.renew(self._settings.tsa_renew_days))
        return bool(done.problems)

    def _report(self, done: Attested) -> None:
        for problem in done.problems:
            self._waits.failed((problem.kind, problem.peer), log.warning, problem.reason)
        for alarm in done.alarms:
            log.error("a witness contradicts this log", reason=alarm)
        self._waits.all_fine()
        self._away.fine()
