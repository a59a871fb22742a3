"""Reads from the trail `system` what it tells of earlier runs of servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import msgspec

from ledger.chain import StoredEntry, check_entry
from ledger.core.org import OrgFacts
from ledger.core.reading.trail import TrailReader
from ledger.core.sealing.sealer import Sealer
from ledger.entry import rfc3339
from ledger.errors import FormatError, SealingError
from ledger.keys import SigningKeyring
from server.settings.told import ToldSettings
from server.trails.own.payloads import SERVER
from server.trails.own.server_payloads import STARTED, STOPPED, ServerStarted, ServerStopped
from server.trails.own.server_runs import EarlierStart, KnownRuns, ServerName
from server.trails.reading import EntryQuery, cursor_of, find, payload_bytes

MAX_ENTRIES: Final = 200
"""Entries of one kind that are read."""
PAGE: Final = 20
MAX_PAGES: Final = 100
"""Pages of the trail that are searched for them."""
T = TypeVar("T", ServerStarted, ServerStopped)


class EarlierRuns:
    """Reads earlier runs. Entries that this server's keys did not sign tell nothing."""

    def __init__(
        self, trail: TrailReader, sealer: Sealer, keyring: Callable[[bool], SigningKeyring]
    ) -> None:
        self._trail = trail
        self._sealer = sealer
        self._keyring = keyring

    async def before(self, org: OrgFacts, starts: Mapping[ServerName, datetime]) -> KnownRuns:
        """Return what is known of servers, given when each started first since. Raises QuireError."""
        last: dict[ServerName, EarlierStart] = {}
        newest: EarlierStart | None = None
        oldest_seq = 0
        if starts:
            async for seq, told in self._entries(org, STARTED, ServerStarted):
                start = _last_of(told)
                newest = newest or start
                if start.server in starts and start.server not in last:
                    last[start.server], oldest_seq = start, seq
                if len(last) == len(starts):
                    break
        stopped: set[str] = set()
        if last:
            async for seq, told_stops in self._entries(org, STOPPED, ServerStopped):
                if seq < oldest_seq:
                    break
                stopped.update(stop.run for stop in told_stops.stops)
        seen: dict[ServerName, str] = {}
        for server, start in last.items():
            moment = None if start.run in stopped else await self._seen(org, starts[server])
            if moment is not None:
                seen[server] = rfc3339(moment)
        return KnownRuns(last, newest, frozenset(stopped), seen)

    async def _entries(
        self, org: OrgFacts, event_type: str, kind: type[T]
    ) -> AsyncIterator[tuple[int, T]]:
        """Yield seq and payload of the newest entries of a kind, the newest first."""
        query = EntryQuery(actor=SERVER, event_type=event_type, limit=PAGE)
        count = 0
        for _ in range(MAX_PAGES):
            page = await find(self._trail, self._sealer, org, query, may_open=True)
            for entry in page.entries:
                told = await self._payload(org, entry, kind)
                count += 1
                if told is not None:
                    yield entry.seq, told
            if page.next_seq is None or count >= MAX_ENTRIES:
                return
            query.cursor = cursor_of(page.next_seq)

    async def _payload(self, org: OrgFacts, entry: StoredEntry, kind: type[T]) -> T | None:
        if not self._is_authentic(org, entry):
            return None
        try:
            body = await payload_bytes(self._sealer, org, entry)
            return msgspec.json.decode(body or b"", type=kind)
        except (FormatError, SealingError, msgspec.MsgspecError):
            return None

    def _is_authentic(self, org: OrgFacts, entry: StoredEntry) -> bool:
        return any(
            # Its key may have been made since the ring was read.
            not check_entry(entry, org.slug, self._keyring(again), None)
            for again in (False, True)
        )

    async def _seen(self, org: OrgFacts, before: datetime) -> datetime | None:
        """Return the time of the newest entry of the trail that is older than a moment."""
        until = rfc3339(before.astimezone(UTC) - timedelta(microseconds=1))
        query = EntryQuery(until=until, limit=1)
        page = await find(self._trail, self._sealer, org, query, may_open=True)
        for entry in page.entries:
            if self._is_authentic(org, entry):
                return entry.anchored_at
        return None


def _last_of(told: ServerStarted) -> EarlierStart:
    """Return the last start of an entry, whose settings it has."""
    start = told.starts[-1]
    return EarlierStart(start.at, told.host, start.run, ToldSettings(told.settings, told.secrets))
