"""Changes of orgs, each in one transaction with its entry in the trail `system`."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from ledger.blocks.block import SYSTEM_ORG
from ledger.core.register import ORGS, Change, ChangeKind
from ledger.core.register.changes import SERVER, RegisteredRow, change_draft, row
from ledger.core.sequencer import Appended, AppendRequest, Effect, RowEffect, Sequencer
from ledger.errors import AppendRefused, ProblemType
from ledger.rows import RowNotAuthentic
from ledger.storage import orgs
from ledger.storage.database import Database
from ledger.storage.orgs import OrgRecord, OrgRow
from ledger.storage.register import last_seq
from ledger.storage.trail import AppendTransaction
from server.access.permits import change_permit
from server.access.principal import KeyValidity, Principal

SYSTEM_NAME: Final = "What this server decided"
_TRIES: Final = 8


class Conflict(AppendRefused):
    """The request contradicts the state of the server."""

    problem_type = ProblemType(
        "conflict", 409, "Conflict", 'the slug "acme" is taken; choose another'
    )


class IdTaken(AppendRefused):
    """A random number is another org's."""


class Administration:
    """Writes rows that decide. Its methods raise as :meth:`Sequencer.append_together` does."""

    def __init__(
        self,
        database: Database,
        sequencer: Sequencer,
        validity: KeyValidity,
        new_org_key: Callable[[str], bytes],
    ) -> None:
        self.validity = validity
        self.register = validity.register
        self.database = database
        self.sequencer = sequencer
        self._new_org_key = new_org_key

    async def begin(self, *, adopts: bool = False) -> None:
        """Open the register; in a new database, create the org `system`.

        In a database with other orgs it is created only where this ``adopts`` them. Raises
        RegisterMissing.
        """
        if await self.register.open(adopts=adopts):
            await self._begin_trail(adopts=adopts)
            return
        wrapped = self._new_org_key(SYSTEM_ORG)
        org = OrgRow(secrets.randbelow(2**31 - 1) + 1, SYSTEM_ORG, SYSTEM_NAME, "plain", wrapped)
        async with self.database.transaction() as connection:
            await orgs.insert_org(connection, org, org.mac(self.register.row_key))
        # A crash here leaves the org with an empty trail; the next start writes its first entry.
        await self.register.open(adopts=adopts)
        await self._begin_trail()

    async def _begin_trail(self, *, adopts: bool = False) -> None:
        """Register the org `system` by the first entry of its trail, if that is empty."""
        record = await orgs.org_by_slug(self.database, SYSTEM_ORG)
        # The head row alone may say so, if it was changed.
        if record is None or record.seq >= 0 or not self.register.is_empty:
            return
        if not record.is_authentic(self.register.row_key):
            return
        if adopts and not record.has_head:  # the table of orgs came from a backup, alone
            await orgs.add_head(self.database, record.id)
        await self.append_with(  # past the lanes: no committer may run yet
            [],
            ChangeKind.ORG_CREATED,
            Change([_org_row(record.row(), record.mac)], org_id=record.id),
            {"org": SYSTEM_ORG},
        )

    async def create_org(
        self,
        slug: str,
        name: str,
        privacy: str,
        actor: str = SERVER,
        *,
        by: Principal | None = None,
    ) -> OrgRecord:
        """Create an org with an empty trail. Raises Conflict where the slug is taken."""
        wrapped = self._new_org_key(slug)
        details = {"org": slug, "name": name, "privacy": privacy}

        async def refusal(transaction: AppendTransaction) -> AppendRefused:
            if await transaction.run(orgs.slug_taken(transaction.connection, slug)):
                return Conflict(f'the slug "{slug}" is taken; choose another')
            return IdTaken("the number is taken")

        for _ in range(_TRIES):
            # Random, so that ids do not reveal the number of tenants.
            org = OrgRow(secrets.randbelow(2**31 - 1) + 1, slug, name, privacy, wrapped)
            mac = org.mac(self.register.row_key)
            effect = RowEffect(orgs.creation(org, mac), refusal)
            change = Change([_org_row(org, mac)], org_id=org.id)
            try:
                await self.record(ChangeKind.ORG_CREATED, change, details, effect, actor, by=by)
            except IdTaken:
                continue
            return await self._created(org, mac, effect)
        raise Conflict("no free org id was found; try again")

    async def _created(self, org: OrgRow, mac: bytes, effect: RowEffect) -> OrgRecord:
        """Return a new org; its row is read only where the answer of the commit was lost."""
        if effect.created_at is not None:
            return OrgRecord.of_new(org, mac, effect.created_at)
        record = await self._authentic(org.id)
        if record is None:
            raise RowNotAuthentic(f"the row of org {org.slug} in table orgs was removed")
        return record

    async def change_org(
        self,
        org_id: int,
        *,
        name: str | None = None,
        log_public: bool | None = None,
        quota: tuple[int | None, int | None] = (None, None),
        max_key_age_days: int | None = None,
        actor: str = SERVER,
        by: Principal | None = None,
    ) -> OrgRecord | None:
        """Change the values that are not None; slug and privacy are fixed.

        ``quota`` is entries and bytes a day. Returns the org as it is then, None if there is none.
        """
        record = await self._authentic(org_id)
        if record is None:
            return None
        changed = record.row()._replace(
            name=record.name if name is None else name,
            log_public=record.log_public if log_public is None else log_public,
            entries_a_day=record.entries_a_day if quota[0] is None else quota[0],
            bytes_a_day=record.bytes_a_day if quota[1] is None else quota[1],
            max_key_age_days=(
                record.max_key_age_days if max_key_age_days is None else max_key_age_days
            ),
        )
        mac = changed.mac(self.register.row_key)
        conflict = Conflict("the org was changed by another request; try again")
        effect = RowEffect(orgs.alteration(changed, mac, record.mac), refusing(conflict))
        details = {
            "org": record.slug,
            "name": changed.name,
            "log_public": changed.log_public,
            "entries_a_day": changed.entries_a_day,
            "bytes_a_day": changed.bytes_a_day,
            "max_key_age_days": changed.max_key_age_days,
        }
        change = Change([_org_row(changed, mac)], org_id=org_id)
        await self.record(ChangeKind.ORG_CHANGED, change, details, effect, actor, by=by)
        return record._replace(**changed._asdict(), mac=mac)

    async def _authentic(self, org_id: int) -> OrgRecord | None:
        """Return the row of an org, None if there is none. Raises RowNotAuthentic for a forged one."""

        async def read() -> list[OrgRecord]:
            found = await orgs.org_by_id(self.database, org_id)
            return [] if found is None else [found]

        def facts(records: list[OrgRecord]) -> list[tuple[str, str, bytes]]:
            return [(ORGS, record.slug, record.mac) for record in records]

        for record in await self.register.settled(read, facts):
            newest = self.register.knows(ORGS, record.slug, record.mac)
            if not newest or not record.is_authentic(self.register.row_key):
                raise RowNotAuthentic(f"the row of org {record.slug} in table orgs was changed")
            return record
        return None

    async def restored(self, slug: str, *, from_archive: bool = False) -> None:
        """Register the row of an org that came back, and forget its older rows.

        Its API keys, and its freeze, are those that a backup or the archive does not have. If it
        came ``from_archive``, or this register has never known it, its security events did not come
        back either: the entry says how many entries did.
        """
        record = await orgs.org_by_slug(self.database, slug)
        if record is None or not record.is_authentic(self.register.row_key):
            raise Conflict(f'the row of org "{slug}" is missing or was not written by this server')
        entries = None
        if from_archive or not self.register.has(ORGS, slug):
            entries = await last_seq(self.database, record.id) + 1
        change = Change([_org_row(record.row(), record.mac)], org_id=record.id, entries=entries)
        await self.record(ChangeKind.ORG_RESTORED, change, {"org": slug})
        if slug == SYSTEM_ORG:
            await self.record(ChangeKind.ORG_RESTORED, Change(), {"org": None})

    async def record(
        self,
        kind: ChangeKind,
        change: Change,
        details: Mapping[str, object],
        effect: Effect | RowEffect | None = None,
        actor: str = SERVER,
        *,
        by: Principal | None = None,
    ) -> None:
        """Write the entry of a change, in one transaction with its effect.

        ``by`` is the caller, whose key must be valid up to the commit: else StaleKey is raised.
        Changes of single rows that wait share a transaction; another effect has its own.
        """
        request = self._request(kind, change, details, effect, actor, by)
        await self._wrote(request, await self.sequencer.append(request))

    async def append_with(
        self,
        requests: Sequence[AppendRequest],
        kind: ChangeKind,
        change: Change,
        details: Mapping[str, object],
        actor: str = SERVER,
        *,
        effect: Effect | None = None,
        by: Principal | None = None,
        locks: Collection[int] = (),
    ) -> Sequence[Appended]:
        """Append to other trails, and the entry of a change to the trail `system`, all or none.

        ``by`` is the caller, whose key must be valid up to the commit: else StaleKey is raised.
        ``locks`` are further orgs whose head rows the effect changes.
        """
        request = self._request(kind, change, details, effect, actor, by)
        appended = await self.sequencer.append_together([*requests, request], locks)
        await self._wrote(request, appended[-1])
        return appended

    def _request(
        self,
        kind: ChangeKind,
        change: Change,
        details: Mapping[str, object],
        effect: Effect | RowEffect | None,
        actor: str,
        by: Principal | None,
    ) -> AppendRequest:
        system_id = self.register.system_id
        assert system_id is not None, "the register is open"
        draft = change_draft(kind, change, actor=actor, details=details)
        request = AppendRequest(system_id, SYSTEM_ORG, [draft], effect=effect)
        request.permit = change_permit(self.validity, by)
        return request

    async def _wrote(self, request: AppendRequest, appended: Appended) -> None:
        (entry,) = appended.entries
        await self.register.wrote(entry.seq, entry.entry_hash, request.drafts[0].payload)


def refusing(error: AppendRefused) -> Callable[[AppendTransaction], Awaitable[AppendRefused]]:
    """Return the refusal of a change that has one reason only."""

    async def refusal(_: AppendTransaction) -> AppendRefused:
        return error

    return refusal


def _org_row(org: OrgRow, mac: bytes) -> RegisteredRow:
    return row(ORGS, org.slug, mac)
