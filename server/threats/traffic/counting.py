"""Adds what a process counted to the minute in which it was counted, three times a minute."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from ledger.bounded import BoundedCache
from server.access.callers.traffic import NOBODY, Counts, Place
from server.addresses import ClientAddress, client_of, digest_of, network_of
from server.threats.traffic.history import MinuteTally, TrafficHistory, TrafficSubject
from server.threats.writing import ADDRESS, KEY, ORG
from server.trails.services import Services

INSTALLATION: Final = TrafficSubject(0, ORG, "")
MAX_ADDRESSES: Final = 2_000
"""Addresses whose counts one process stores at once: those with most refusals, then most requests.

Orgs and keys are counted whole.
"""
AT_ONCE: Final = 200
"""Addresses that are digested before other requests have their turn."""
MAX_CACHED: Final = 10_000


class TrafficCounting:
    """Stores the counts of one process: ``services.part(TrafficCounting)``."""

    def __init__(self, services: Services) -> None:
        self._database = services.database
        self._traffic = services.callers.traffic
        self._now_us = services.clock.wall.unbroken_us
        self._address = lru_cache(maxsize=MAX_CACHED)(self._digested)
        self._groups: BoundedCache[str, str] = BoundedCache(MAX_CACHED)
        self._address_key = services.address_key
        self._minute = self.minute()

    def minute(self) -> int:
        """Return the present minute since the Unix epoch, which goes on over a leap of the clock."""
        return self._now_us() // 60_000_000

    async def store(self) -> None:
        """Add what was counted since the last call to the minute of that. Raises DatabaseUnavailable.

        What could not be stored is counted later, in one minute: it makes no two odd ones.
        """
        minute, self._minute = self._minute, self.minute()
        taken = self._traffic.take()
        if not taken:
            return
        try:
            counts = await self._by_subject(taken)
            async with self._database.transaction() as connection:
                await TrafficHistory(connection).add(minute, counts)
        except BaseException:
            self._traffic.give_back(taken)
            raise

    async def _by_subject(self, taken: Mapping[Place, Counts]) -> dict[TrafficSubject, MinuteTally]:
        """Return the counts of the installation, of orgs, keys and addresses."""
        sums: dict[TrafficSubject, list[int]] = defaultdict(lambda: [0, 0, 0])
        of_addresses: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        for (org_id, key_id, group), counts in taken.items():
            named = [INSTALLATION]
            if org_id:
                named.append(TrafficSubject(org_id, ORG, ""))
            if org_id and key_id:
                named.append(TrafficSubject(org_id, KEY, key_id))
            for subject in named:
                _add(sums[subject], counts)
            if org_id and group != NOBODY:
                _add(of_addresses[org_id, group], counts)
        for at, ((org_id, group), counts) in enumerate(_most(of_addresses)):
            digest, network = self._address(group)
            _add(sums[TrafficSubject(org_id, ADDRESS, digest, network)], counts)
            if at % AT_ONCE == 0:
                await asyncio.sleep(0)
        return {subject: MinuteTally(*counts) for subject, counts in sums.items()}

    def _digested(self, group: str) -> tuple[str, str]:
        address = client_of(group)
        digest = digest_of(address, self._address_key)
        self._groups.put(digest, group)
        return digest, network_of(address)

    def address_of(self, digest: str) -> ClientAddress | None:
        """Return the address with a digest, if this process counted it lately."""
        group = self._groups.get(digest)
        return None if group is None else client_of(group)


def _add(to: Counts, counts: Counts) -> None:
    for which, count in enumerate(counts):
        to[which] += count


def _most(
    counts: Mapping[tuple[int, str], Counts],
) -> Iterable[tuple[tuple[int, str], Counts]]:
    """Return the counts of the addresses with most refusals and requests."""
    if len(counts) <= MAX_ADDRESSES:
        return counts.items()
    ordered = sorted(counts.items(), key=lambda one: (-one[1][1], -one[1][0]))
    return ordered[:MAX_ADDRESSES]
