"""The directory of orgs: finds the org of a path, and checks the caller's right to it.

A row that the server did not write, or an older one that was put back, is refused.

An org that does not exist and an org of another tenant get the same answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.blocks.block import SYSTEM_ORG
from ledger.bounded import BoundedCache
from ledger.core.org import NO_QUOTA, OrgFacts, Quota
from ledger.core.register import ORGS, Register
from ledger.errors import NOT_FOUND, QuireError
from ledger.rows import RowNotAuthentic
from ledger.storage import orgs
from ledger.storage.asking import asking, vital_work
from ledger.storage.database import Database
from ledger.storage.orgs import OrgRecord
from server.access.principal import Principal
from server.access.rights import Right

MAX_CACHED: Final = 100_000
MAX_MISSING: Final = 10_000
"""Slugs without a public log have a cache of their own: strangers can make up any number."""
PUBLIC_TTL_S: Final = 30.0
"""How long a log may stay public here after it was made private, if notifications are lost."""
SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class NotFound(QuireError):
    """The resource does not exist for this caller."""

    problem_type = NOT_FOUND


def no_such_org(slug: str) -> NotFound:
    """Return the same error for an org that does not exist and for an org of another tenant."""
    return NotFound(f'there is no org "{slug[:64]}" for this key')


class Directory:
    """Finds orgs, and caches the facts of them; a change reaches every server by NOTIFY."""

    def __init__(self, database: Database, register: Register) -> None:
        self._database = database
        self._register = register
        self._orgs: BoundedCache[str, OrgFacts] = BoundedCache(MAX_CACHED)
        self._slugs: BoundedCache[int, str] = BoundedCache(MAX_CACHED)
        self._public: BoundedCache[str, tuple[OrgFacts, float]] = BoundedCache(MAX_CACHED)
        self._not_public: BoundedCache[str, float] = BoundedCache(MAX_MISSING)
        self._forgotten = 0

    async def org(self, slug: str, principal: Principal, right: Right) -> OrgFacts:
        """Return the org of a slug if the caller has the right to it.

        Raises NotFound, Forbidden, RowNotAuthentic.
        """
        org = self._orgs.get(slug)
        if principal.org_id is None:
            org = org or await self._find(slug)
        elif org is None or org.id != principal.org_id:
            # Only the caller's own org is read: the time does not reveal whether others exist.
            org = await self._own(principal.org_id)
        if org is None or org.slug != slug:
            raise no_such_org(slug)
        principal.require(right)
        return org

    async def by_id(self, org_id: int) -> OrgFacts | None:
        """Return the org with this id, None if there is none. Raises RowNotAuthentic."""
        forgotten = self._forgotten
        record = await self._authentic(lambda: orgs.org_by_id(self._database, org_id))
        return None if record is None else self._remember(record, forgotten)

    async def public(self, slug: str) -> OrgFacts | None:
        """Return the org of a slug if its log is public, which is read without a key.

        A private org and a missing org behave alike: same answer, same caching, same queries.
        """
        found = self._public.get(slug)
        now = time.monotonic()
        if found is not None and found[1] > now:
            return found[0]
        if (self._not_public.get(slug) or 0) > now or not SLUG.fullmatch(slug):
            return None
        forgotten = self._forgotten
        try:
            record = await self._authentic(lambda: orgs.public_org(self._database, slug))
        except RowNotAuthentic:  # reported; a stranger learns nothing of a private org
            record = None
        org = None if record is None else self._remember(record, forgotten)
        # A record read before a change must not be cached after it.
        if forgotten == self._forgotten:
            until = time.monotonic() + PUBLIC_TTL_S
            if org is None:
                self._public.pop(slug)
                self._not_public.put(slug, until)
            else:
                self._not_public.pop(slug)
                self._public.put(slug, (org, until))
        return org

    def forget(self, slug: str) -> None:
        """Read an org again: its quota was changed, or whether its log is public."""
        self._forgotten += 1
        self._orgs.pop(slug)
        self._public.pop(slug)
        self._not_public.pop(slug)

    def forget_all(self) -> None:
        """Read all orgs again: changes may have been missed."""
        self._forgotten += 1
        self._orgs.clear()
        self._public.clear()
        self._not_public.clear()

    async def _own(self, org_id: int) -> OrgFacts | None:
        org = self._orgs.get(self._slugs.get(org_id) or "")
        return org or await self.by_id(org_id)

    async def record(self, org_id: int) -> OrgRecord | None:
        """Return the row of an org with its head, None if there is none. Raises RowNotAuthentic."""
        return await self._authentic(lambda: orgs.org_by_id(self._database, org_id))

    async def listed(self, after_slug: str, limit: int) -> list[tuple[OrgRecord, bool]]:
        """Return orgs in the order of their slugs, each with whether its row is right.

        Those with a forged row are reported.
        """

        async def read() -> list[OrgRecord]:
            return await orgs.list_orgs(self._database, after_slug, limit)

        records = await self._register.settled(read, _facts)
        found = [(record, self._is_right(record)) for record in records]
        for record, is_right in found:
            if not is_right:
                self._report(record)
        return found

    async def _authentic(self, find: Callable[[], Awaitable[OrgRecord | None]]) -> OrgRecord | None:
        async def read() -> list[OrgRecord]:
            found = await find()
            return [] if found is None else [found]

        with asking(vital_work()):
            records = await self._register.settled(read, _facts)
        for record in records:
            if self._is_right(record):
                return record
            raise RowNotAuthentic(self._report(record))
        return None

    def _is_right(self, record: OrgRecord) -> bool:
        newest = self._register.knows(ORGS, record.slug, record.mac)
        return newest and record.is_authentic(self._register.row_key)

    def _report(self, record: OrgRecord) -> str:
        detail = (
            f"the row of org {record.slug} in table orgs was changed, made or put back in the "
            "database: the org is refused. Restore the row from a backup, and find out who can write "
            "to the database"
        )
        self._register.reports.found(record.id, detail)
        return detail

    async def _find(self, slug: str) -> OrgFacts | None:
        if not SLUG.fullmatch(slug):
            return None
        forgotten = self._forgotten
        record = await self._authentic(lambda: orgs.org_by_slug(self._database, slug))
        if record is None:
            await self._register.catch_up()
        if record is None and self._register.has(ORGS, slug):
            detail = f"the row of org {slug} in table orgs was removed from the database"
            self._register.reports.found(None, detail)
            raise RowNotAuthentic(f"{detail}. Restore it from a backup, or from its archive")
        return None if record is None else self._remember(record, forgotten)

    def _remember(self, record: OrgRecord, forgotten: int) -> OrgFacts:
        org = OrgFacts(
            record.id,
            record.slug,
            record.privacy == "sealed",
            record.wrapped_key,
            record.keys_lost_below,
            _quota(record),
            record.max_key_age_days,
        )
        # A record read before a change must not be cached after it.
        if forgotten == self._forgotten:
            self._orgs.put(record.slug, org)
            self._slugs.put(record.id, record.slug)
        return org

    async def system(self) -> OrgFacts:
        """Return the org whose trail is the server's own. Raises RowNotAuthentic."""
        found = await self._find(SYSTEM_ORG)
        assert found is not None, "the register is open"
        return found


def _quota(record: OrgRecord) -> Quota:
    quota = Quota(record.entries_a_day, record.bytes_a_day)
    return quota if any(quota) else NO_QUOTA


def _facts(records: list[OrgRecord]) -> list[tuple[str, str, bytes]]:
    return [(ORGS, record.slug, record.mac) for record in records]
