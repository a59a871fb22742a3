"""The directory of orgs: finds the org of a path, and checks the caller's right to it.

An org that does not exist and an org of another tenant get the same answer.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

from ledger.archive.retention.run import SYSTEM
from ledger.core.org import OrgFacts
from ledger.core.sealing.sealer import new_org_key
from ledger.errors import NOT_FOUND, ProblemType, QuireError
from ledger.storage import orgs
from ledger.storage.database import Database
from ledger.storage.orgs import OrgRecord
from server.access.auth import Principal
from server.access.rights import Right

MAX_CACHED: Final = 100_000
PUBLIC_TTL_S: Final = 30.0
"""How long a log may stay public here after it was made private, if notifications are lost."""
SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
SYSTEM_NAME: Final = "What this server decided"
_TRIES: Final = 8


class NotFound(QuireError):
    """The resource does not exist for this caller."""

    problem_type = NOT_FOUND


class Conflict(QuireError):
    """The request contradicts the state of the server."""

    problem_type = ProblemType("conflict", 409, "Conflict")


def no_such_org(slug: str) -> NotFound:
    """Return the same error for an org that does not exist and for an org of another tenant."""
    return NotFound(f'there is no org "{slug[:64]}" for this key')


class Directory:
    """Finds and creates orgs; caches the facts of them that never change."""

    def __init__(self, database: Database, master_key: bytes) -> None:
        self._database = database
        self._master_key = master_key
        self._orgs: dict[str, OrgFacts] = {}
        self._slugs: dict[int, str] = {}
        self._public: dict[str, tuple[OrgFacts | None, float]] = {}
        self._forgotten = 0

    async def org(self, slug: str, principal: Principal, right: Right) -> OrgFacts:
        """Return the org of a slug if the caller has the right to it.

        Raises NotFound or Forbidden.
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
        """Return the org with this id, None if there is none."""
        record = await orgs.org_by_id(self._database, org_id)
        return None if record is None else self._remember(record)

    async def public(self, slug: str) -> OrgFacts | None:
        """Return the org of a slug if its log is public, which is read without a key.

        A private org and a missing org behave alike: same answer, same caching, same queries.
        """
        found = self._public.get(slug)
        if found is not None and found[1] > time.monotonic():
            return found[0]
        if not SLUG.fullmatch(slug):
            return None
        forgotten = self._forgotten
        record = await orgs.public_org(self._database, slug)
        org = None if record is None else self._remember(record)
        # A record read before a change must not be cached after it.
        if forgotten == self._forgotten:
            if len(self._public) >= MAX_CACHED:
                self._public.clear()
            self._public[slug] = (org, time.monotonic() + PUBLIC_TTL_S)
        return org

    def forget_public(self, slug: str) -> None:
        """Read again whether this org's log is public: that was changed."""
        self._forgotten += 1
        self._public.pop(slug, None)

    def forget_all_public(self) -> None:
        """Read again which logs are public: changes may have been missed."""
        self._forgotten += 1
        self._public.clear()

    async def _own(self, org_id: int) -> OrgFacts | None:
        org = self._orgs.get(self._slugs.get(org_id, ""))
        return org or await self.by_id(org_id)

    async def _find(self, slug: str) -> OrgFacts | None:
        if not SLUG.fullmatch(slug):
            return None
        record = await orgs.org_by_slug(self._database, slug)
        return None if record is None else self._remember(record)

    def _remember(self, record: OrgRecord) -> OrgFacts:
        if len(self._orgs) >= MAX_CACHED:
            self._orgs.clear()
            self._slugs.clear()
        org = OrgFacts(
            record.id,
            record.slug,
            record.privacy == "sealed",
            record.wrapped_key,
            record.keys_lost_below,
        )
        self._orgs[record.slug] = org
        self._slugs[record.id] = record.slug
        return org

    async def system(self) -> OrgFacts:
        """Return the org whose trail is the server's own; create it if needed. Raises Conflict."""
        record = await orgs.org_by_slug(self._database, SYSTEM)
        if record is None:
            return await self._create(SYSTEM, SYSTEM_NAME, "plain")
        if record.privacy != "plain":
            raise Conflict(
                f'the org "{SYSTEM}" was not created by the server: nothing is recorded in it'
            )
        return self._remember(record)

    async def create(self, slug: str, name: str, privacy: str) -> OrgFacts:
        """Create an org with an empty trail. Raises Conflict where the slug is taken."""
        if slug == SYSTEM:
            raise Conflict(f'the slug "{slug}" is reserved for the server; choose another')
        return await self._create(slug, name, privacy)

    async def _create(self, slug: str, name: str, privacy: str) -> OrgFacts:
        wrapped = new_org_key(self._master_key, slug)
        for _ in range(_TRIES):
            # Random, so that ids do not reveal the number of tenants.
            org_id = secrets.randbelow(2**31 - 1) + 1
            taken = await orgs.insert_org(self._database, org_id, slug, name, privacy, wrapped)
            if taken is None:
                return OrgFacts(org_id, slug, privacy == "sealed", wrapped)
            if taken == "slug":
                raise Conflict(f'the slug "{slug}" is taken; choose another')
        raise Conflict("no free org id was found; try again")
