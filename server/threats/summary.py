"""The threats to an org, as far as they are known: its score, the level of a period, who contributes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from ledger.core.org import OrgFacts
from server.threats import store
from server.threats.levels import PERIOD_HOURS, ThreatLevel, threat_level
from server.threats.scores import RECENT_MINUTES
from server.threats.store import EventCount, StoredScore
from server.threats.writing import ADDRESS, KEY, ORG
from server.trails.services import Services

SERIOUS: Final = frozenset({"high", "critical"})


class ThreatSummary(NamedTuple):
    """The threats to an org in a period of ``hours``.

    ``org`` is its own score, None without any event that weighs something. ``blocked`` and
    ``recent_blocked`` count occurrences, all others events.
    """

    hours: int
    org: StoredScore | None
    keys: list[StoredScore]
    addresses: list[StoredScore]
    counts: list[EventCount]
    blocked: int
    recent_blocked: int

    @property
    def serious(self) -> int:
        """How many events have the severity high or critical."""
        return sum(one.events for one in self.counts if one.severity in SERIOUS)

    @property
    def total(self) -> int:
        """How many security events there are."""
        return sum(one.events for one in self.counts)

    @property
    def level(self) -> ThreatLevel:
        """The level of the period."""
        return threat_level(self.serious, self.blocked)

    def by_layer(self) -> dict[str, int]:
        """Return how many events each layer has."""
        return self._by({one: one.layer for one in self.counts})

    def by_kind(self) -> dict[str, int]:
        """Return how many events each kind has."""
        return self._by({one: one.kind for one in self.counts})

    def _by(self, names: Mapping[EventCount, str]) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        for one, name in names.items():
            found[name[:100]] += one.events
        return dict(sorted(found.items()))


async def summary_of(services: Services, org: OrgFacts, hours: int = PERIOD_HOURS) -> ThreatSummary:
    """Return the threats to an org in the last hours. Raises DatabaseUnavailable."""
    database, of_all = services.database, org.id == services.register.system_id
    minute = await store.minute_now(database)
    of_org = await store.scores_of(database, org.id, ORG, minute, hours)
    return ThreatSummary(
        hours,
        of_org[0] if of_org else None,
        await store.scores_of(database, org.id, KEY, minute, hours),
        await store.scores_of(database, org.id, ADDRESS, minute, hours),
        await store.counts(database, org.id, hours, of_all=of_all),
        await store.blocked_since(database, org.id, minute - 60 * hours),
        await store.blocked_since(database, org.id, minute - RECENT_MINUTES),
    )


def parts_of(text: str) -> dict[str, int]:
    """Return the parts of a stored score; none for a text that somebody changed."""
    try:
        return msgspec.json.decode(text, type=dict[str, int])
    except msgspec.MsgspecError:
        return {}
