"""The signer's other task: timestamps and cosignatures for anchors, never in the way of signing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import structlog

from ledger.core.attesting.anchors import AnchorAttestation, Attested
from ledger.core.lasting import LastingByKey
from ledger.errors import ClockUnsteady, QuireError
from ledger.storage.database import Database
from server.keys.attestors import attestors
from server.refusal import StartupRefused
from server.settings import Settings
from server.trails.clock import ServerClock

log = structlog.get_logger("quire")

AGAIN_S: Final = 10.0
NEWS_S: Final = 1.0
"""Between looks for a new anchor: a bundle of what was just appended waits for its cosignatures."""
RENEW_LOOK_S: Final = 3_600.0


class AnchorAttesting:
    """Asks whoever the settings name, for as long as it runs."""

    def __init__(self, settings: Settings, database_url: str, clock: ServerClock) -> None:
        self._settings = settings
        self._clock = clock
        self._url = database_url
        self._stamped = float("-inf")
        self._renewed = float("-inf")
        self._waits = LastingByKey("attestations wait", "attestations are made again")

    async def run(self) -> None:
        """For ever; ends at once where the settings name nobody."""
        if self._settings.tsa_url is None and self._settings.witness_policy is None:
            return
        while True:
            try:
                await self._attest()
            except (QuireError, StartupRefused) as error:
                self._waits.failed("", log.warning, str(error))
            await asyncio.sleep(AGAIN_S)

    async def _attest(self) -> None:
        database = await Database.open(self._url, size=2)
        try:
            async with attestors(self._settings) as named:
                attestation = AnchorAttestation(database, named.tsa, named.witnesses)
                while True:
                    troubled = await self._turn(attestation)
                    wait_s = AGAIN_S if troubled else NEWS_S
                    await asyncio.sleep(min(self._settings.anchor_seconds, wait_s))
        finally:
            await database.close()

    async def _turn(self, attestation: AnchorAttestation) -> bool:
        """One turn; True where somebody did not attest, who is given time."""
        now = time.monotonic()
        stamp = now - self._stamped >= self._settings.tsa_seconds
        done = await attestation.attest(stamp=stamp)
        if done.tokens:
            self._stamped = now
        self._report(done)
        if now - self._renewed >= RENEW_LOOK_S:
            with contextlib.suppress(ClockUnsteady):  # by a wrong clock all tokens would be old
                self._clock.settled()
                self._renewed = now
                self._report(await attestation.renew(self._settings.tsa_renew_days))
        return bool(done.problems)

    def _report(self, done: Attested) -> None:
        for problem in done.problems:
            what, _, reason = problem.partition(": ")  # no timestamp for anchor 7: who says why
            who = (what.split()[1], reason.partition(" ")[0])
            self._waits.failed(who, log.warning, problem)
        for alarm in done.alarms:
            log.error("a witness contradicts this log", reason=alarm)
        self._waits.all_fine()
