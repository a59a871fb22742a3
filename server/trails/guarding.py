"""Freezes and thaws trails, erases subjects, and records disclosures and other acts of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from ledger.blocks.block import SYSTEM_ORG
from ledger.chain import UNKNOWN_KEY
from ledger.core.org import OrgFacts
from ledger.core.reading.index_reports import INDEX_DAMAGED
from ledger.core.register import NOT_AUTHENTIC, Change, ChangeKind, FaultSeqs
from ledger.core.sealing.opener import ref_of
from ledger.core.sealing.sealer import Drafted, Sealer
from ledger.core.sequencer import Appended, AppendRequest, Effect, Sequencer
from ledger.core.verification.work.faults import (
    ALWAYS_REQUIRED,
    INDEX_KINDS,
    ROW_KINDS,
    SECURITY_EVENT_KINDS,
    Checks,
    Result,
)
from ledger.entry import search_tag
from ledger.errors import NOT_FOUND, AppendRefused
from ledger.event import Event, EventFields
from ledger.storage import accepted_doubts, attestations, orgs, security_events, subjects
from ledger.storage.database import Database
from ledger.storage.trail import AppendTransaction
from server import metrics
from server.access.administration import Administration
from server.access.permits import holding
from server.access.principal import Principal
from server.trails.appending import append_sealed
from server.trails.own.entry_kinds import DISCLOSED, ERASED, THAWED

log = structlog.get_logger("quire")

EVENTS_ALTERED: Final = "security_events_altered"


class NothingToErase(AppendRefused):
    """The subject has no row: never seen, or erased before."""

    problem_type = NOT_FOUND


class TrailGuard:
    """Prevents appends to damaged trails until an operator thaws them."""

    def __init__(
        self,
        database: Database,
        sequencer: Sequencer,
        sealer: Sealer,
        administration: Administration,
    ) -> None:
        self.register = administration.register
        self._database = database
        self._sequencer = sequencer
        self._sealer = sealer
        self._administration = administration

    async def faults_found(self, org_id: int, result: Result) -> None:
        """Freeze the org of a verification, unless an operator accepted all faults that it found.

        Faults of the anchor log concern all orgs and freeze none: they raise an alarm. Faults of the
        search index, of rows that decide and of security events freeze no org either: they become
        security events.
        """
        record = await orgs.org_by_id(self._database, org_id)
        if record is None:
            return
        metrics.FAULTS.inc(result.fault_count)
        index = [fault for fault in result.errors if fault.kind in INDEX_KINDS]
        rows = [fault for fault in result.errors if fault.kind in ROW_KINDS]
        events = [fault for fault in result.errors if fault.kind in SECURITY_EVENT_KINDS]
        beside = [*index, *rows, *events]
        common = [fault for fault in result.errors if fault.seq < 0 and fault not in beside]
        own = [fault for fault in result.errors if fault.seq >= 0 and fault.kind != UNKNOWN_KEY]
        if common:
            text = f"{common[0].kind}: {common[0].reason}"
            log.error("verification found faults in the anchor log", first=text)
            await attestations.add_alarm(self._database, "anchor_log_faults", text)
        for fault in index:
            log.error(
                "verification found faults in the search index", org=record.slug, first=fault.reason
            )
            await security_events.add_once(self._database, org_id, INDEX_DAMAGED, fault.reason)
        for fault in rows:
            log.error("verification found rows that decide", org=record.slug, first=fault.reason)
            await security_events.add_once(self._database, org_id, NOT_AUTHENTIC, fault.reason)
        if events:
            text = f"{len(events):,} faults of security events, the first: {events[0].reason}"
            log.error("verification found faults of security events", org=record.slug, first=text)
            await security_events.add_once(self._database, org_id, EVENTS_ALTERED, text)
        if not own and (result.fault_count == len(result.errors) or not _accuses(result.checks)):
            return
        count = result.fault_count - len(common) - len(beside)
        found = FaultSeqs(count, sorted({fault.seq for fault in own}))
        await self.register.catch_up()
        accepted = self.register.state.accepted.get(org_id)
        if accepted is not None and accepted.covers(found):
            return
        first = f", the first at seq {own[0].seq}: {own[0].kind}" if own else ""
        faults = "1 fault" if count == 1 else f"{count} faults"
        reason = f"verification found {faults}{first}"
        log.error("org frozen: verification found faults", org=record.slug, reason=reason)
        metrics.FROZEN.inc()
        await self._sequencer.freezes.freeze(org_id, record.slug, reason, found)

    async def thaw(
        self, org: OrgFacts, reason: str, key_id: str, by: Principal | None = None
    ) -> None:
        """Let a frozen org accept entries again; record the reason as an entry of its trail.

        ``by``, here and below, is the caller whose key must be valid up to the commit.
        """
        await self.register.catch_up()
        freeze = self.register.state.frozen.get(org.id)
        record = await orgs.org_by_id(self._database, org.id)
        frozen = None if record is None else record.frozen_reason
        payload = {
            "event_type": THAWED,
            "actor": f"key:{key_id}",
            "action": "thaw",
            "reason": reason,
            "frozen_reason": frozen,
        }
        change = Change(
            org_id=org.id, reason=reason, faults=None if freeze is None else freeze.faults
        )
        about = _About(ChangeKind.THAWED, change, {"org": org.slug, "reason": reason})

        async def accept(transaction: AppendTransaction) -> AppendRefused | None:
            await accepted_doubts.accept(transaction, org.id, key_id, self.register.row_key)
            return None

        await self._append(org, payload, None, by, about, accept, thaw=True)

    async def erase(
        self, org: OrgFacts, name: str, key_id: str, by: Principal | None = None
    ) -> Appended:
        """Destroy a subject's key and row, and record it in the trail, in one transaction.

        Raises NothingToErase if the org does not have this subject.
        """
        ref = await ref_of(self._sealer, org, name)
        if ref is None:
            raise NothingToErase("this org does not have this subject; it may be erased already")
        lookup = self._sealer.keys(org).lookup(name)

        async def erase(transaction: AppendTransaction) -> AppendRefused | None:
            if await subjects.erase(transaction, org.id, lookup):
                return None
            return NothingToErase("this subject was just erased by another request")

        payload = {"event_type": ERASED, "actor": f"key:{key_id}", "action": "erase", "ref": ref}
        about = _About(ChangeKind.ERASED, Change(org_id=org.id, ref=ref), {"org": org.slug})
        appended = await self._append(org, payload, ref, by, about, erase)
        self._sealer.forget(org)
        return appended

    async def record(
        self,
        org: OrgFacts,
        event: Mapping[str, object],
        *,
        by: Principal | None = None,
        effect: Effect | None = None,
    ) -> Appended:
        """Record in a trail an act of the server, before or after it, or in one transaction with it."""
        return await self._append(org, event, None, by, effect=effect)

    async def record_all(
        self, org: OrgFacts, events: Sequence[msgspec.Struct], effect: Effect
    ) -> Appended:
        """Record several acts of the server in a trail, in one transaction with an effect."""

        def request(sealed: Drafted) -> AppendRequest:
            return AppendRequest(
                org.id, org.slug, sealed.drafts, erasures=sealed.erasures, effect=effect
            )

        bodies = [msgspec.json.encode(event) for event in events]
        made = [Event(msgspec.json.decode(body, type=EventFields), body) for body in bodies]
        return await append_sealed(self._sequencer.append, self._sealer, org, made, request)

    async def disclosed(
        self,
        org: OrgFacts,
        scope: Mapping[str, object],
        key_id: str,
        by: Principal | None = None,
    ) -> Appended:
        """Record that a bundle discloses sealed payloads or names, before it is sent."""
        act = {"event_type": DISCLOSED, "actor": f"key:{key_id}", "action": "disclose"}
        return await self._append(org, {**act, **scope}, None, by)

    async def _append(
        self,
        org: OrgFacts,
        payload: Mapping[str, object],
        ref: str | None,
        by: Principal | None,
        about: _About | None = None,
        effect: Effect | None = None,
        *,
        thaw: bool = False,
    ) -> Appended:
        """Append an entry of the server; if it is ``about`` a change, with the change's entry."""
        if about is not None and org.slug == SYSTEM_ORG:
            # One entry of this trail is both.
            payload, about = {**payload, "register": about.change}, None
        if about is None:  # else the change's own entry is refused
            effect = holding(self._administration.validity, by, effect)
        body = msgspec.json.encode(payload)
        event = Event(msgspec.json.decode(body, type=EventFields), body)

        def request(sealed: Drafted) -> AppendRequest:
            draft = sealed.drafts[0]
            if ref is not None:
                draft.subject, draft.subject_tag = ref, search_tag(ref)
            return AppendRequest(
                org.id,
                org.slug,
                [draft],
                erasures=sealed.erasures,
                effect=effect,
                thaw=thaw,
            )

        async def append(request: AppendRequest) -> Appended:
            if about is None:
                return await self._sequencer.append(request)
            actor = str(payload["actor"])
            change = self._administration.append_with([request], *about, actor=actor, by=by)
            return (await change)[0]

        return await append_sealed(append, self._sealer, org, [event], request)


def _accuses(checks: Checks) -> bool:
    """Return whether a check of the entries, their head or their tree failed."""
    named = (*ALWAYS_REQUIRED, "tree", "checkpoints")
    return any(getattr(checks, name) is False for name in named)


class _About(NamedTuple):
    """A change that an entry of an org's own trail is about, with details for people."""

    kind: ChangeKind
    change: Change
    details: Mapping[str, object]
