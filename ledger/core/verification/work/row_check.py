"""Judges the rows by which the server decides about an org, beside the other checks.

What it finds says nothing about the entries: appends go on, and what such a row stands for is
refused where it is used.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ledger.chain import TrailFault
from ledger.core.org import OrgFacts
from ledger.core.register import Register, RegisterBehind
from ledger.core.verification.work.faults import MAX_REASON_CHARS, NO_ENTRY
from ledger.core.verification.work.newest_rows import NewestRows
from ledger.core.verification.work.tally import Tally
from ledger.errors import SealingError
from ledger.log_keys import settle
from ledger.rows import Value
from ledger.storage import accepted_doubts, orgs, subjects
from ledger.storage.copy_out import reader_of
from ledger.storage.judged_rows import JUDGED, JudgedTable, RowReader
from ledger.storage.key_checks import MASTER
from ledger.storage.subjects import SubjectRecord

CHECK: Final = "rows"
_READS: Final = 3


PeopleJudge = Callable[[OrgFacts, Sequence[SubjectRecord]], list[str]]


class RowTrust(NamedTuple):
    """What rows are judged with, all of it from outside the database.

    ``people`` returns the names of the rows of these persons that are not authentic; it raises
    SealingError if the org's own key does not open. ``register`` knows the newest rows; None: any
    authentic one counts. ``log`` has the stored form of each statement of the own log keys, oldest first; None: this
    machine has no log keys. ``checks`` has the check values of own keys, by kind and key id.
    """

    row_key: bytes
    people: PeopleJudge
    log: Sequence[bytes] | None = None
    checks: Mapping[tuple[str, str], bytes] = {}
    register: Register | None = None


class RowCheck:
    """The rows that are not authentic or missing: by kind and table the first, and how many."""

    def __init__(self) -> None:
        self._right = 0
        self._wrong: dict[tuple[str, str], tuple[str, int]] = {}
        self.unknown: str | None = None
        """Why rows can't be compared with the register; None: they were."""

    def add(self, table: str, right: int, wrong: Iterable[str] = ()) -> None:
        """Add the number of right rows of a table, and the names of the wrong ones."""
        self._right += right
        for name in wrong:
            self._add("row_not_authentic", table, name)

    def missing(self, table: str, name: str) -> None:
        """Add a row that should be there."""
        self._add("row_missing", table, name)

    def _add(self, kind: str, table: str, name: str) -> None:
        first, count = self._wrong.get((kind, table), (name, 0))
        self._wrong[kind, table] = first, count + 1

    def add_to(self, tally: Tally) -> None:
        """Add the answer of the check, and one fault for each table with wrong rows."""
        for (kind, table), (first, count) in sorted(self._wrong.items()):
            tally.add_fault(TrailFault(NO_ENTRY, kind, _reason(kind, table, first, count)))
        if self.unknown is not None:
            tally.reasons[CHECK] = self.unknown
        elif self._right:
            tally.passed.add(CHECK)
        else:
            tally.reasons[CHECK] = "no row decides about this org"


def _reason(kind: str, table: str, first: str, count: int) -> str:
    state = (
        "removed from the database"
        if kind == "row_missing"
        else "changed or made in the database, not by this server"
    )
    more = f" and {count - 1:,} more" if count > 1 else ""
    return f"rows of table {table} were {state}: {first}{more}"[:MAX_REASON_CHARS]


async def check_rows(url: str, snapshot: str, org_id: int, org: str, trust: RowTrust) -> RowCheck:
    """Judge the rows that concern an org under a snapshot. Raises DatabaseUnavailable."""
    found = RowCheck()
    newest = None if trust.register is None else NewestRows(trust.register)
    async with reader_of(url, snapshot) as reader:
        try:
            for judged in JUDGED:
                await _check_macs(reader.rows, judged, org_id, trust.row_key, found, newest)
            await _check_people(reader.rows, org_id, org, trust, found)
            if newest is not None:
                for table, name in await newest.missing(org_id):
                    found.missing(table, name)
                await _check_freeze(org_id, org, newest.register, found)
        except RegisterBehind as error:
            found.unknown = str(error)
        await _check_log_keys(reader.rows, trust, found)
        await _check_keys(reader.rows, trust, found)
    return found


async def _check_macs(
    rows: RowReader,
    judged: JudgedTable,
    org_id: int,
    key: bytes,
    found: RowCheck,
    newest: NewestRows | None,
) -> None:
    async for page in rows.pages(judged, org_id):
        wrong = await asyncio.to_thread(_wrong_macs, judged, page, key)
        if newest is not None:
            wrong += await newest.older(judged, page)
        found.add(judged.table.name, len(page) - len(wrong), wrong)


def _wrong_macs(judged: JudgedTable, page: Sequence[Sequence[Value]], key: bytes) -> list[str]:
    """Return the names of the rows whose MACs are wrong."""
    table = judged.table
    return [
        _name(table.key, row)
        for row in page
        if not table.is_right(key, row[-1], *row[:-1])  # type: ignore[arg-type]
    ]


def _name(columns: Sequence[str], row: Sequence[Value]) -> str:
    values = (value.hex() if isinstance(value, bytes) else str(value) for value in row)
    return ", ".join(f"{column} {value}" for column, value in zip(columns, values, strict=False))


async def _check_people(
    rows: RowReader, org_id: int, slug: str, trust: RowTrust, found: RowCheck
) -> None:
    """Open every subject's key and name: they are wrapped for this ref and person of this org."""
    stored = await rows.org_key(org_id)
    if stored is None or not stored[1]:
        return  # an org that seals has a key
    facts, judge = OrgFacts(org_id, slug, stored[0], stored[1]), trust.people
    register = trust.register
    try:
        judge(facts, [])
        async for page in rows.people(org_id):
            people = [SubjectRecord(*row) for row in page]
            wrong = await asyncio.to_thread(judge, facts, people)
            if register is not None:
                await register.refresh()
                wrong += [
                    f"ref {person.ref}, erased"
                    for person in people
                    if register.is_erased(org_id, person.ref)
                    and await subjects.by_refs(register.database, org_id, [person.ref])
                ]
            found.add("subjects", len(page) - len(wrong), wrong)
    except SealingError:
        found.add("orgs", 0, [f"the key of org {slug}"])


async def _check_freeze(org_id: int, org: str, register: Register, found: RowCheck) -> None:
    """Compare the head row's freeze with the register.

    That of `system` may stand alone, and that of the signer, whose own table says why.
    """
    for _ in range(_READS):  # it may be frozen or thawed just now
        record = await orgs.org_by_id(register.database, org_id)
        await register.catch_up()
        says = record is not None and record.frozen_reason is not None
        if says == (register.freeze_of(org_id) is not None) or org_id == register.system_id:
            found.add("heads", 1)
            return
        if says and await accepted_doubts.stopped(register.database, org_id):
            found.add("heads", 1)
            return
    found.add("heads", 0, [f"the freeze of org {org}"])


async def _check_log_keys(rows: RowReader, trust: RowTrust, found: RowCheck) -> None:
    """Compare the stored statements with the own log keys; else with their own signatures."""
    stored, signed = await rows.log_keys()
    settled = settle(trust.log or (), stored)
    right = len(stored) - len(settled.aside)
    found.add("log_keys", right, [f"position {at}" for at in settled.aside])
    # The signer publishes a new key before it signs with it, so that only the newest may lack.
    for position in settled.missing if stored or not signed else [0]:
        found.missing("log_keys", f"position {position}")


async def _check_keys(rows: RowReader, trust: RowTrust, found: RowCheck) -> None:
    """Compare the stored check values with those of the own keys."""
    known = [row for row in await rows.key_checks() if row[:2] in trust.checks]
    wrong = [
        f"{kind} key {key_id}".rstrip()
        for kind, key_id, value in known
        if not hmac.compare_digest(value, trust.checks[kind, key_id])
    ]
    found.add("key_checks", len(known) - len(wrong), wrong)
    # The next start adds the check of a signing key that was made since.
    for kind, key_id in trust.checks.keys() - {row[:2] for row in known}:
        if kind == MASTER:
            found.missing("key_checks", f"{kind} key {key_id}".rstrip())
