"""What each route promises beyond its signature: who may call it, with which body, what it refuses.

The description of the API and docs/api.md are held to this by tests, and this is
held to what the server does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from server.access.auth import May
from server.http.routes.archives import ArchiveBody
from server.http.routes.bundles import ZIP, CreateBundle
from server.http.routes.entries import EntryPage
from server.http.routes.erasures import EraseSubject
from server.http.routes.operations import Readiness
from server.http.routes.proofs import TLOG_PROOF, ProofBody, SignedHead
from server.http.routes.tenants import ChangeOrg, CreateKey, CreateOrg, HeadBody, ThawOrg
from server.http.routes.verifications import JobBody, VerifyRange
from server.trails.appending import JSON, MSGPACK
from server.trails.reading import EntryBody


class Promise(msgspec.Struct, frozen=True):
    """One route: the right it asks for (None: any key), its body and the problems it answers.

    Every route with a right also answers 401, and 403 or 404 to the wrong key.
    A ``public`` one needs no key where the org's log is public; ``raw`` is the
    content type of a body of any bytes. ``answers`` is for routes that write their bytes themselves: schema by media type.
    """

    may: May | None = None
    open: bool = False
    public: bool = False
    raw: str | None = None
    body: type | None = None
    body_required: bool = True
    example: Any = None
    problems: tuple[int, ...] = ()
    answers: Mapping[int, Mapping[str, Any]] = {}

    def refusals(self, parameters: Sequence[Mapping[str, Any]]) -> list[int]:
        """Every status of a problem that a route with these parameters answers."""
        statuses = set(self.problems)
        if not self.open:
            statuses |= {401, 503}
        if self.may is not None:
            statuses.add(403)
        if any(parameter["in"] == "path" for parameter in parameters):
            statuses.add(404)
        if any(parameter["in"] == "query" for parameter in parameters):
            statuses.add(400)
        return sorted(statuses)


class Receipt(msgspec.Struct):
    """The place of an event in the trail; durable once this is answered.

    ``proof`` is there where ``wait=checkpoint`` was asked for; null: not signed in time.
    """

    record_id: str
    seq: int
    entry_hash: str
    previous_hash: str | None
    anchored_at: str
    proof: ProofBody | UnsetType | None = UNSET


class BatchReceipt(msgspec.Struct):
    """The places of a batch's events, in their order, and the head after them.

    ``checkpoint`` is there where ``wait=checkpoint`` was asked for; null: not signed in time.
    """

    entries: list[Receipt]
    head: HeadBody
    checkpoint: SignedHead | UnsetType | None = UNSET


class BatchSummary(msgspec.Struct):
    """The bounds of a batch, where ``Prefer: return=minimal`` asked for no more."""

    first_seq: int
    last_seq: int
    count: int
    head: HeadBody
    checkpoint: SignedHead | UnsetType | None = UNSET


class KeyStatement(msgspec.Struct):
    """What one key of the log is, signed by the key before it and by itself."""

    statement: dict[str, Any]
    signatures: list[dict[str, Any]]


class KeyHistory(msgspec.Struct):
    """The keys that sign checkpoints and anchors, oldest first."""

    origin: str
    keys: list[KeyStatement]


EVENT: Final = {
    "event_type": "invoice.approved",
    "actor": "ada@example.com",
    "action": "approve",
    "outcome": "success",
    "amount": "120.00",
}
BATCH: Final = [EVENT, {"event_type": "user.login", "actor": "bob", "subject": "bob"}]


WATCHED: Final = {
    "type": "object",
    "description": "One server-sent event; its data is a JobBody as JSON.",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "done"]},
        "data": {"type": "string", "contentMediaType": JSON},
    },
}
NOTE: Final = "text/plain"
OCTETS: Final = "application/octet-stream"
TEXT: Final = {"type": "string"}
BYTES: Final = {"type": "string", "format": "binary"}
_WRITES: Final = (408, 413, 503)

PROMISES: Final[dict[str, Promise]] = {
    "whoAmI": Promise(),
    "createOrg": Promise(
        May.PLATFORM,
        body=CreateOrg,
        example={"slug": "acme", "name": "Acme Ltd", "privacy": "sealed"},
        problems=(400, 409, *_WRITES),
    ),
    "listOrgs": Promise(May.PLATFORM, problems=(400,)),
    "getOrg": Promise(May.READ),
    "changeOrg": Promise(
        May.ADMINISTER, body=ChangeOrg, example={"name": "Acme"}, problems=(400, *_WRITES)
    ),
    "thawOrg": Promise(
        May.ADMINISTER,
        body=ThawOrg,
        example={"reason": "restored from the backup of 3 May; verified whole"},
        problems=(400, 409, 429, *_WRITES),
    ),
    "createKey": Promise(
        May.ADMINISTER,
        body=CreateKey,
        example={"name": "billing service", "role": "member"},
        problems=(400, *_WRITES),
    ),
    "listKeys": Promise(May.ADMINISTER),
    "revokeKey": Promise(May.ADMINISTER, problems=(400,)),
    "listSecurityEvents": Promise(May.ADMINISTER),
    "appendEntries": Promise(
        May.APPEND,
        problems=(400, 408, 413, 415, 422, 423, 429, 503),
        answers={201: {JSON: Receipt | BatchReceipt | BatchSummary}},
    ),
    "listEntries": Promise(May.READ, problems=(400,), answers={200: {JSON: EntryPage}}),
    "getEntry": Promise(May.READ, answers={200: {JSON: EntryBody}}),
    "getPayload": Promise(
        May.OPEN,
        problems=(409,),
        answers={
            200: {
                JSON: {"type": "object"},
                MSGPACK: {"type": "string", "format": "binary"},
            }
        },
    ),
    "getHead": Promise(May.READ),
    "createErasure": Promise(
        May.ADMINISTER,
        body=EraseSubject,
        example={"subject": "ada@example.com"},
        problems=(400, 409, 423, 429, *_WRITES),
    ),
    "eraseSubject": Promise(May.ADMINISTER, problems=(400, 409, 423, 429)),
    "startVerification": Promise(
        May.VERIFY,
        body=VerifyRange,
        body_required=False,
        example={"from_seq": 0, "to_seq": None},
        problems=(400, 429, *_WRITES),
        answers={200: {JSON: JobBody}, 202: {JSON: JobBody}},
    ),
    "getVerification": Promise(May.VERIFY),
    "watchVerification": Promise(May.VERIFY, answers={200: {"text/event-stream": WATCHED}}),
    "verifyEntry": Promise(May.VERIFY, problems=(400,)),
    "getLogCheckpoint": Promise(May.READ, public=True, answers={200: {NOTE: TEXT}}),
    "getLogTile": Promise(May.READ, public=True, problems=(429,), answers={200: {OCTETS: BYTES}}),
    "addToLog": Promise(
        May.APPEND,
        public=True,
        raw=OCTETS,
        problems=(400, 408, 413, 423, 429),
        answers={200: {NOTE: TEXT}},
    ),
    "listCheckpoints": Promise(May.READ),
    "getCheckpoint": Promise(May.READ),
    "getProof": Promise(
        May.READ, problems=(409, 423), answers={200: {JSON: ProofBody, TLOG_PROOF: TEXT}}
    ),
    "getConsistency": Promise(May.READ, problems=(409,)),
    "createBundle": Promise(
        May.READ,
        body=CreateBundle,
        example={"from_seq": 0, "to_seq": 0, "include_payloads": False},
        problems=(400, 409, 423, 429, *_WRITES),
        answers={200: {ZIP: BYTES}},
    ),
    "getArchive": Promise(May.VERIFY, problems=(409,)),
    "archiveTrail": Promise(
        May.ADMINISTER,
        problems=(400, 409),
        answers={200: {JSON: ArchiveBody}, 202: {JSON: ArchiveBody}},
    ),
    "getAnchorCheckpoint": Promise(open=True, problems=(404, 503), answers={200: {NOTE: TEXT}}),
    "getAnchorTile": Promise(open=True, problems=(429, 503), answers={200: {OCTETS: BYTES}}),
    "listAnchors": Promise(open=True, problems=(503,)),
    "getAnchor": Promise(open=True, problems=(503,)),
    "getAnchorConsistency": Promise(open=True, problems=(409, 503)),
    "getLogKeys": Promise(open=True, problems=(404, 503), answers={200: {JSON: KeyHistory}}),
    "live": Promise(open=True),
    "ready": Promise(open=True, answers={200: {JSON: Readiness}, 503: {JSON: Readiness}}),
    "metrics": Promise(open=True, answers={200: {"text/plain": {"type": "string"}}}),
}
"""By operation id."""
