"""The directory of tenants: which org a path means, and whether the caller may go there.

An org that does not exist and an org of another tenant are answered alike.
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
from server.access.auth import Forbidden, Principal
from server.access.rights import Right

MAX_CACHED: Final = 100_000
PUBLIC_TTL_S: Final = 30.0
"""How long a log may stay public here after it was made private, where NOTIFY is cut."""
SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
SYSTEM_NAME: Final = "What this server decided"
_TRIES: Final = 8


class NotFound(QuireError):
    """There is nothing here for this caller."""

    problem_type = NOT_FOUND


class Conflict(QuireError):
    """What was asked contradicts what is there."""

    problem_type = ProblemType(
        "conflict", 409, "Conflict", "the slug 'acme' is taken; choose another"
    )


def no_such_org(slug: str) -> NotFound:
    """The one answer for orgs that do not exist and orgs of others."""
    return NotFound(f"there is no org {slug[:64]!r} for this key")


class Directory:
    """Finds and creates orgs; what never changes of them is cached."""

    def __init__(self, database: Database, master_key: bytes) -> None:
        self._database = database
        self._master_key = master_key
        self._orgs: dict[str, OrgFacts] = {}
        self._slugs: dict[int, str] = {}
        self._public: dict[str, tuple[OrgFacts | None, float]] = {}
        self._forgotten = 0

    async def org(self, slug: str, principal: Principal, what: Right) -> OrgFacts:
        """The org of this slug, for this caller and purpose. Raises NotFound or Forbidden."""
        org = self._orgs.get(slug)
        if principal.org_id is None:
            org = org or await self._find(slug)
        elif org is None or org.id != principal.org_id:
            # The caller's own org decides: an org of others takes no more time than none.
            org = await self._own(principal.org_id)
        if org is None or org.slug != slug:
            raise no_such_org(slug)
        if not principal.may(what):
            raise Forbidden(f"a {principal.role} key may not {what}")
        return org

    async def by_id(self, org_id: int) -> OrgFacts | None:
        """The org with this id."""
        record = await orgs.org_by_id(self._database, org_id)
        return None if record is None else self._remember(record)

    async def public(self, slug: str) -> OrgFacts | None:
        """The org of this slug if its log is public: it is read without a key.

        A private org and none are alike here, in what is answered, kept and awaited.
        """
        found = self._public.get(slug)
        if found is not None and found[1] > time.monotonic():
            return found[0]
        if not SLUG.fullmatch(slug):
            return None
        forgotten = self._forgotten
        record = await orgs.public_org(self._database, slug)
        org = None if record is None else self._remember(record)
        # What was read before a change may not outlive it.
        if forgotten == self._forgotten:
            if len(self._public) >= MAX_CACHED:
                self._public.clear()
            self._public[slug] = (org, time.monotonic() + PUBLIC_TTL_S)
        return org

    def forget_public(self, slug: str) -> None:
        """Ask again whether this org's log is public: that was changed."""
        self._forgotten += 1
        self._public.pop(slug, None)

    def forget_all_public(self) -> None:
        """Ask again for all: changes may have been missed."""
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
        """The org whose trail is the server's own, made at first need. Raises Conflict."""
        record = await orgs.org_by_slug(self._database, SYSTEM)
        if record is None:
            return await self._create(SYSTEM, SYSTEM_NAME, "plain")
        if record.privacy != "plain":
            raise Conflict(f"an org {SYSTEM!r} of somebody is there: nothing is recorded in it")
        return self._remember(record)

    async def create(self, slug: str, name: str, privacy: str) -> OrgFacts:
        """Create an org with an empty trail. Raises Conflict where the slug is taken."""
        if slug == SYSTEM:
            raise Conflict(f"the slug {slug!r} is the server's own; choose another")
        return await self._create(slug, name, privacy)

    async def _create(self, slug: str, name: str, privacy: str) -> OrgFacts:
        wrapped = new_org_key(self._master_key, slug)
        for _ in range(_TRIES):
            # Random, so that ids do not tell how many tenants there are.
            org_id = secrets.randbelow(2**31 - 1) + 1
            taken = await orgs.insert_org(self._database, org_id, slug, name, privacy, wrapped)
            if taken is None:
                return OrgFacts(org_id, slug, privacy == "sealed", wrapped)
            if taken == "slug":
                raise Conflict(f"the slug {slug!r} is taken; choose another")
        raise Conflict("no free org id was found; try again")
