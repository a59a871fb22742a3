"""Verifies the audit log of a period: the whole trail that holds it, then each of its rows.

Which entries belong to a period is known only from all of them: imported rows have times of their
own, and an entry that was removed from the trail would be missing. So the whole trail is verified,
as a job whose end is waited for. What is not checked by then is never called verified.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec

from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.core.verification.own_jobs import Job
from ledger.core.verification.run import TrailRange
from ledger.core.verification.work.faults import Result
from ledger.entry import decode_leaf
from ledger.errors import FormatError
from ledger.qwed.event import CORRECTION_TYPE
from ledger.qwed.event import EVENT_TYPE as IMPORTED
from ledger.storage.entries.search import EntrySearch
from ledger.verdict import Verdict
from server.qwed.bodies import EvidenceBody, TrailCheckBody
from server.qwed.period import Period
from server.qwed.reading import search_for
from server.qwed.rows import VERDICT, created_at
from server.trails.services import Services

WAIT_S: Final = 50.0
"""How long a request waits for the verification; an unfinished one is none."""
READS: Final = 200
"""Searches of each kind: of a trail with more, nothing is said."""
PAGE_ROWS: Final = 1_000
MAX_ERRORS: Final = 20
SOURCES: Final = (EntrySearch(0, 0, [b'"event_type":"qwed.'], None, None), search_for(VERDICT))


class PeriodRow(NamedTuple):
    """A row of the period; ``outcome`` is that of an imported row as last corrected, else None."""

    seq: int
    entry_hash: str
    outcome: str | None


class PeriodRows(NamedTuple):
    """The rows of a period; ``complete`` if all entries of the trail were read."""

    rows: list[PeriodRow]
    complete: bool


async def check_period(services: Services, org: OrgFacts, period: Period) -> TrailCheckBody:
    """Verify a trail, and say what that means for the rows of a period."""
    jobs = services.verifications
    job = await jobs.submit(TrailRange(org.id, org.slug))
    job = await jobs.wait(org.id, job.id, WAIT_S) or job
    # Read after the verification: an entry that was added meanwhile is not called verified.
    found = await rows_of(services, org, period)
    return judged(org.slug, period, found, job)


async def rows_of(services: Services, org: OrgFacts, period: Period) -> PeriodRows:
    """Read the rows of a period from all entries of a trail."""
    found = _Collected(period)
    complete = True
    for where in SOURCES:
        from_seq: int | None = 0
        for _ in range(READS):
            page = await services.trail.page(
                org.id, where, from_seq=from_seq, descending=False, limit=PAGE_ROWS
            )
            for entry in page.entries:
                found.add(entry)
            from_seq = page.next_seq
            if from_seq is None:
                break
        complete = complete and from_seq is None
    return PeriodRows(found.rows(), complete)


class _Collected:
    """The rows of a period among the entries that were added, and corrections of any rows."""

    def __init__(self, period: Period) -> None:
        self._period = period
        self._rows: dict[int, PeriodRow] = {}
        self._actions: dict[int, str] = {}
        self._corrected: dict[str, str] = {}

    def add(self, entry: StoredEntry) -> None:
        """Add an entry, in the order of the trail; one that can't be read is left to its verification."""
        try:
            leaf = decode_leaf(entry.leaf)
        except FormatError:
            return
        kind, action = leaf.event_type, leaf.action or ""
        if kind == CORRECTION_TYPE:
            self._corrected[action] = leaf.outcome or "broken"
        if kind not in (IMPORTED, VERDICT):
            return
        if self._period.has(created_at(kind, leaf.timestamp, leaf.anchored_at)):
            outcome = None
            if kind == IMPORTED:
                outcome = leaf.outcome or "broken"
                self._actions[entry.seq] = action
            self._rows[entry.seq] = PeriodRow(entry.seq, entry.entry_hash.hex(), outcome)

    def rows(self) -> list[PeriodRow]:
        """Return the rows in the order of the trail, with the outcomes that corrections gave them."""
        for seq, action in self._actions.items():
            if action in self._corrected:
                self._rows[seq] = self._rows[seq]._replace(outcome=self._corrected[action])
        return [self._rows[seq] for seq in sorted(self._rows)]


def judged(org: str, period: Period, found: PeriodRows, job: Job) -> TrailCheckBody:
    """Return the answer from the rows of the period and the verification of their trail."""
    rows, result = found.rows, job.result
    failed = _failed(rows, result)
    legacy = sum(row.outcome == "unsigned" for row in rows)
    holds = result is not None and (result.verdict is Verdict.VERIFIED or _is_empty(result))
    covered = [row for row in rows if result is not None and row.seq <= result.last_seq]
    verified = [
        row for row in covered if holds and row.seq not in failed and row.outcome != "unsigned"
    ]
    errors = _errors(found, job, rows, failed, legacy, len(rows) - len(covered))
    status = "NOT_VERIFIED"
    if holds and not errors:
        status = "VERIFIED" if rows else "NO_ENTRIES"
    evidence = _evidence(org, period, rows)
    return TrailCheckBody(
        organization_id=org,
        start=period.first,
        end=period.last,
        status=status,  # type: ignore[arg-type]
        proof_ref=_proof_ref(evidence) if status == "VERIFIED" else None,
        evidence=evidence,
        scope=_scope(result),
        total_entries=len(rows),
        verified_entries=len(verified),
        failed_entries=len(failed),
        first_failed_entry_id=min(failed, default=None),
        legacy_entries=legacy,
        errors=errors[:MAX_ERRORS],
        total_errors=len(errors),
        errors_truncated=len(errors) > MAX_ERRORS,
    )


def _is_empty(result: Result) -> bool:
    """Return whether a trail was found that never had an entry, as far as anybody knows."""
    return result.verdict is Verdict.INCOMPLETE and not result.total_entries


def _failed(rows: list[PeriodRow], result: Result | None) -> set[int]:
    """Return the seqs of rows that do not hold: a fault of the entry, or a broken row."""
    at_fault = set() if result is None else {fault.seq for fault in result.errors}
    sound = (None, "valid", "unsigned")
    return {row.seq for row in rows if row.seq in at_fault or row.outcome not in sound}


def _errors(
    found: PeriodRows, job: Job, rows: list[PeriodRow], failed: set[int], legacy: int, newer: int
) -> list[str]:
    """Return every reason why the period is not verified."""
    result, errors = job.result, []
    if result is None:
        errors.append(_unfinished(job))
    else:
        errors += [f"entry {fault.seq}: {fault.kind}: {fault.reason}" for fault in result.errors]
        if result.fault_count > len(result.errors):
            errors.append(f"{result.fault_count - len(result.errors)} more faults of the trail")
        if result.verdict is Verdict.INCOMPLETE and result.total_entries:
            errors += [f"not checked: {name}: {why}" for name, why in result.reasons.items()] or [
                "not checked: the verdict on the trail is incomplete"
            ]
    if not found.complete:
        errors.append("the trail has more entries than one request reads: not all were looked at")
    at_fault = set() if result is None else {fault.seq for fault in result.errors}
    errors += [
        f"entry {row.seq}: the imported row is {row.outcome}"
        for row in rows
        if row.seq in failed and row.seq not in at_fault
    ]
    if legacy:
        errors.append(
            f"{legacy} of the rows were written by QWED without hash and signature: nothing to check"
        )
    if newer and result is not None:
        errors.append(f"{newer} entries were added after the trail was verified: ask again")
    return errors


def _unfinished(job: Job) -> str:
    if job.error is not None:
        return f"the trail could not be verified: {job.error}"
    return (
        f"the verification {job.id} of the trail goes on: {job.processed} of {job.total} entries "
        "were read; ask for its end"
    )


def _evidence(org: str, period: Period, rows: list[PeriodRow]) -> EvidenceBody:
    first, last = (rows[0], rows[-1]) if rows else (None, None)
    return EvidenceBody(
        org,
        period.first,
        period.last,
        None if first is None else first.seq,
        None if last is None else last.seq,
        len(rows),
        None if last is None else last.entry_hash,
    )


def _proof_ref(evidence: EvidenceBody) -> str:
    # Its members are strings of ASCII, integers and null: sorted, this is canonical JSON.
    text = msgspec.json.encode(msgspec.structs.asdict(evidence), order="deterministic")
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _scope(result: Result | None) -> str:
    if result is None:
        return "nothing: the verification of the trail did not end"
    if not result.total_entries:
        return "the trail, which has no entry"
    true = [
        name for name, answer in msgspec.structs.asdict(result.checks).items() if answer is True
    ]
    return (
        f"the whole trail, entries {result.first_seq} to {result.last_seq}: {', '.join(true)}. "
        "Imported rows: as their import judged them with QWED's secret"
    )
