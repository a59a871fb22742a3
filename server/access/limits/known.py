"""The limits of orgs as this process knows them: their own, else those of the settings.

An org has limits of its own where the trail `system` says so. Each request compares what the process
has folded of that trail, so a change holds everywhere within a second, as it does for API keys. An
org whose row is not the one that the trail records, or is gone, has no limits that can be relied on:
what they would limit is refused until the limits are set again. No edit of a row lifts a limit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ledger.bounded import BoundedCache
from ledger.core.register import ORG_LIMITS, Register
from ledger.rows import RowNotAuthentic
from ledger.storage import org_limits
from ledger.storage.asking import asking, vital_work
from ledger.storage.database import Database
from ledger.storage.org_limits import OrgLimitsRecord, OrgLimitsRow
from server.access.limits.rules import PerMinute
from server.access.limits.settings import LimitSettings

MAX_CACHED: Final = 100_000
_LOOKS: Final = 3


class OrgRates(NamedTuple):
    """The limits of each key of an org, and of all its keys together; ``mac`` is that of their row."""

    key: PerMinute
    org: PerMinute
    mac: str | None = None


def default_rates(settings: LimitSettings) -> OrgRates:
    """Return the limits of an org that has none of its own."""
    return OrgRates(
        PerMinute(
            settings.key_append_per_minute,
            settings.key_read_per_minute,
            settings.key_verify_per_minute,
        ),
        PerMinute(
            settings.org_append_per_minute,
            settings.org_read_per_minute,
            settings.org_verify_per_minute,
        ),
    )


def rates_of(row: OrgLimitsRow, mac: bytes) -> OrgRates:
    """Return the limits that a row sets."""
    return OrgRates(PerMinute(*row[1:4]), PerMinute(*row[4:7]), mac.hex())


class KnownLimits:
    """Finds the limits of orgs; those of most orgs without a query."""

    def __init__(self, database: Database, register: Register, settings: LimitSettings) -> None:
        self.defaults = default_rates(settings)
        self._database = database
        self._register = register
        self._own: BoundedCache[int, OrgRates] = BoundedCache(MAX_CACHED)

    def known(self, org_id: int) -> OrgRates | None:
        """Return the limits of an org, if the process knows the newest ones; else None."""
        found = self._own.get(org_id) or self.defaults
        return found if self._register.is_newest(ORG_LIMITS, str(org_id), found.mac) else None

    async def load(self, org_id: int) -> OrgRates:
        """Read the limits of an org. Raises RowNotAuthentic, RegisterBehind, DatabaseUnavailable."""
        for _ in range(_LOOKS):
            record = await self._newest(org_id)
            if record is not None:
                own = rates_of(record.row, record.mac)
                self._own.put(org_id, own)
                return own
            if not self._register.has(ORG_LIMITS, str(org_id)):
                self._own.pop(org_id)
                return self.defaults
            # Its first row may have been committed since it was read.
        raise RowNotAuthentic(self._reported(org_id, "removed from"))

    async def _newest(self, org_id: int) -> OrgLimitsRecord | None:
        """Return the row of an org, None if there is none. Raises RowNotAuthentic for another one."""

        async def read() -> list[OrgLimitsRecord]:
            found = await org_limits.of_org(self._database, org_id)
            return [] if found is None else [found]

        def facts(records: list[OrgLimitsRecord]) -> list[tuple[str, str, bytes]]:
            return [(ORG_LIMITS, str(org_id), record.mac) for record in records]

        with asking(vital_work()):
            records = await self._register.settled(read, facts)
        for record in records:
            newest = self._register.knows(ORG_LIMITS, str(org_id), record.mac)
            if not newest or not record.is_authentic(self._register.row_key):
                raise RowNotAuthentic(self._reported(org_id, "changed, made or put back in"))
            return record
        return None

    def _reported(self, org_id: int, what: str) -> str:
        detail = (
            f"the row of table org_limits with org_id {org_id} was {what} the database: what it limits "
            "is refused. Set the limits of the org again (quire orgs limits), and find out who can "
            "write to the database"
        )
        self._register.reports.found(org_id, detail)
        return detail
