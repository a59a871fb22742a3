"""The server's answers as typed, frozen structs.

Unknown members are ignored, and open sets (roles, states, kinds of fault) are plain strings, so
that the answers of a newer server can be read. All times have a time zone. Hashes and
signatures are lower-case hex.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

import msgspec

from ledger.client.errors import ProtocolError

Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
Verdict: TypeAlias = bool | Literal["not_checked"]
"""True and False are findings; a check that was not made is never True."""

Privacy: TypeAlias = Literal["sealed", "plain"]
Role: TypeAlias = Literal["admin", "member", "auditor", "viewer"]
Order: TypeAlias = Literal["desc", "asc"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The receipt of an append: the entry is durable and its seq is final.

    ``previous_hash`` is None for the first entry of a trail. ``warnings`` name fields of the event
    that look like a recognised field misspelt; of a batch only the first ten.
    """

    record_id: str
    seq: int
    entry_hash: str
    previous_hash: str | None
    anchored_at: Time
    warnings: tuple[str, ...] = ()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A trail's newest entry; in an empty trail ``seq`` is -1 and the other fields are None."""

    seq: int
    entry_hash: str | None = None
    anchored_at: Time | None = None


class BatchReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a batch: one receipt for each event, in their order.

    ``warnings`` are those of the receipts with the index of each event, and how many more there are.
    """

    entries: list[Receipt]
    head: Head
    warnings: tuple[str, ...] = ()


class BatchSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The short answer to a batch of ``count`` entries, ``first_seq`` to ``last_seq``.

    ``warnings`` as of a :class:`BatchReceipt`.
    """

    first_seq: int
    last_seq: int
    count: int
    head: Head
    warnings: tuple[str, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a trail, as this key may read it.

    ``payload_raw`` is the event's JSON exactly as it was sent, and ``payload``
    the same decoded: None for an erased entry, for one this key may not open or
    whose key was not restored (``key_not_restored``), and for MessagePack events, which are in ``payload_base64``.
    """

    record_id: str
    seq: int
    entry_hash: str
    previous_hash: str | None
    anchored_at: Time
    signature: str
    key: str
    event_type: str | None = None
    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    subject: str | None = None
    timestamp: str | None = None
    data_classification: str | None = None
    legal_basis: str | None = None
    # Not decoded with the page: one event with a number too large for Python
    # must not make the entries beside it unreadable.
    payload_raw: msgspec.Raw = msgspec.field(name="payload", default=msgspec.Raw(b"null"))
    payload_format: str = "json"
    payload_base64: str | None = None
    erased: bool = False
    sealed: bool = False
    key_not_restored: bool = False

    @property
    def payload(self) -> Any:
        """The decoded event.

        Raises ProtocolError for JSON without a Python value; use
        ``client.payload(record_id)`` for the bytes then.
        """
        try:
            return msgspec.json.decode(self.payload_raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(f"the payload of {self.record_id} can't be decoded") from error


class EntryFilters(TypedDict, total=False):
    """The filters of ``entries``; ``since`` and ``until`` need a time zone.

    ``order`` defaults to newest first ("desc"); ``page_size`` is the number of entries that are
    fetched at a time, at most 1,000.
    """

    event_type: str | None
    actor: str | None
    subject: str | None
    action: str | None
    outcome: str | None
    data_classification: str | None
    since: datetime | str | None
    until: datetime | str | None
    order: Order
    page_size: int


class EventFilters(TypedDict, total=False):
    """The filters of ``security_events``; ``since`` and ``until`` need a time zone.

    ``acknowledged`` is True for events that somebody has dealt with, False for those that are open.
    """

    kind: str | None
    severity: Literal["low", "medium", "high", "critical"] | None
    since: datetime | str | None
    until: datetime | str | None
    acknowledged: bool | None


class BundleDisclosure(TypedDict, total=False):
    """The plaintext that a bundle discloses: ``fields`` (the payload) of all or these ``records``."""

    fields: Sequence[Literal["payload", "actor", "subject"]]
    records: Literal["all"] | Sequence[str]


class BundleRequest(TypedDict, total=False):
    """The arguments of ``export_evidence_bundle``.

    Select the entries by ``record_ids``, by ``from_seq`` and ``to_seq`` (both included; they
    default to the first and the newest entry), or by the filters of ``entries``. By default
    proofs, anchor and payloads are included, and nothing is disclosed.
    ``include_quantum_attestation`` is another name of ``include_pq_attestation``: the anchor,
    with its post-quantum signature (ML-DSA) beside the classical one, and its timestamps.
    """

    record_ids: Sequence[str] | None
    from_seq: int | None
    to_seq: int | None
    event_type: str | None
    actor: str | None
    subject: str | None
    action: str | None
    outcome: str | None
    since: datetime | str | None
    until: datetime | str | None
    include_merkle_proofs: bool
    include_pq_attestation: bool
    include_quantum_attestation: bool
    include_payloads: bool
    disclose: BundleDisclosure | None


class EntryPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of entries; even a short or empty page may have a next one."""

    entries: list[Entry]
    next_cursor: str | None = None


class EntryChecks(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about one entry, check by check."""

    hash_valid: Verdict = "not_checked"
    signature_valid: Verdict = "not_checked"
    chain_valid: Verdict = "not_checked"
    payload_valid: Verdict = "not_checked"
    included: Verdict = "not_checked"


class ImportedRowVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an imported QWED row; ``corrected_by`` is the entry that corrected it."""

    organization_id: int
    row_id: int
    outcome: str | None = None
    corrected_by: str | None = None


class EntryVerification(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one entry, with reasons in ``errors``. True exactly when valid.

    ``verdict`` is "verified", "refuted" or "incomplete", ``valid`` True for "verified" alone.
    ``row`` is the entry's QWED row, where the entry was requested by the row's id.
    """

    valid: bool
    verdict: str = "incomplete"
    checks: EntryChecks
    record_id: str
    timestamp: Time
    errors: list[str] = []
    unsigned_entries: int = 0
    row: ImportedRowVerdict | None = None

    def __bool__(self) -> bool:
        return self.valid


class SignedHead(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint: ``note`` is the C2SP signed note, ``root`` the tree's root in hex."""

    size: int
    root: str
    note: str
    signed_at: Time


class Checkpoint(SignedHead, frozen=True, kw_only=True):
    """A checkpoint in a list; ``anchor_index`` is None until it is anchored."""

    anchor_index: int | None = None


class CheckpointPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of checkpoints."""

    checkpoints: list[Checkpoint]
    next_cursor: int | None = None


class Timestamp(msgspec.Struct, frozen=True, kw_only=True):
    """An RFC 3161 token over an anchor's note, DER."""

    token: bytes
    gen_time: Time


class Anchoring(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint's place in the anchor log: ``leaf`` at ``index``, included in ``anchor``."""

    index: int
    nonce: str
    leaf: str
    hashes: list[str]
    anchor: SignedHead
    timestamps: list[Timestamp] = []


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The proof of an entry's inclusion in a checkpoint (RFC 6962); it is not verified here.

    ``anchoring`` is None while no anchor includes the checkpoint.
    """

    record_id: str
    index: int
    leaf_hash: str
    hashes: list[str]
    checkpoint: SignedHead
    anchoring: Anchoring | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault of a trail at ``seq``; -1 is a fault of no entry: of the anchor log, the search index, a row or a security event."""

    seq: int | None
    kind: str
    reason: str


class TrailChecks(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about a trail, check by check."""

    hashes: Verdict = "not_checked"
    links: Verdict = "not_checked"
    signatures: Verdict = "not_checked"
    payloads: Verdict = "not_checked"
    columns: Verdict = "not_checked"
    head: Verdict = "not_checked"
    tree: Verdict = "not_checked"
    checkpoints: Verdict = "not_checked"
    anchors: Verdict = "not_checked"
    classical_signature: Verdict = "not_checked"
    pq_signature: Verdict = "not_checked"
    external_time: Verdict = "not_checked"
    witnesses: Verdict = "not_checked"
    search_index: Verdict = "not_checked"
    rows: Verdict = "not_checked"
    security_events: Verdict = "not_checked"


class TrailVerification(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a trail or a range of it. True exactly when valid.

    ``verdict`` is "verified", "refuted" or "incomplete", ``valid`` True for "verified"
    alone. ``errors`` is bounded by the server, ``fault_count`` is exact;
    ``failed_entries`` counts entries with at least one fault, ``unsigned_entries`` entries
    that no checkpoint covers yet. ``reasons`` has the reason of each check that was not made.
    """

    valid: bool
    verdict: str = "incomplete"
    total_entries: int
    verified_entries: int
    failed_entries: int
    fault_count: int
    errors: list[Fault] = []
    first_seq: int | None = None
    last_seq: int | None = None
    checks: TrailChecks = TrailChecks()
    unsigned_entries: int = 0
    reasons: dict[str, str] = {}

    def __bool__(self) -> bool:
        return self.valid


class VerificationJob(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a verification job; ``rate`` is in entries per second.

    ``verdict`` and ``valid`` are None until it is done.
    """

    id: str
    state: str
    verdict: str | None = None
    valid: bool | None = None
    processed: int = 0
    total: int | None = None
    rate: float | None = None
    from_seq: int | None = None
    to_seq: int | None = None
    faults: list[Fault] = []
    fault_count: int = 0
    result: TrailVerification | None = None
    created_at: Time | None = None
    finished_at: Time | None = None

    @property
    def finished(self) -> bool:
        """Whether this is the job's last state."""
        return self.state in ("done", "failed")


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """The time and reason of an org's freezing."""

    at: Time
    reason: str


class Org(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant; ``head`` is None while its trail is empty.

    ``authentic`` is False in a list if its row was changed in the database: it is refused.
    ``warnings`` describe consequences of the change that was just made.
    """

    slug: str
    name: str
    privacy: str
    created_at: Time
    frozen: Freeze | None = None
    head: Head | None = None
    log_public: bool = False
    entries_a_day: int | None = None
    bytes_a_day: int | None = None
    max_key_age_days: int | None = None
    authentic: bool = True
    warnings: list[str] = []


class OrgPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of orgs."""

    orgs: list[Org]
    next_cursor: str | None = None


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """Who has dealt with a security event (an API key's id), when, and why."""

    at: Time
    key: str
    reason: str


class SecurityEventInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An event that an operator must know about: what happened, when, and what was found.

    ``acknowledged`` is None while nobody has dealt with it; ``score`` is 0 to 100, or None.
    """

    id: int
    at: Time
    kind: str
    detail: str
    severity: str = "medium"
    layer: str = "other"
    score: int | None = None
    key: str | None = None
    details: dict[str, Any] = {}
    acknowledged: Acknowledged | None = None


class SecurityEventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of security events."""

    events: list[SecurityEventInfo]
    next_cursor: int | None = None


class ThreatScoreInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A threat score, 0 to 100, the points of its parts, and when it was reached.

    Of an API key it has ``key``; of an address its keyed ``digest`` and the ``network`` that holds it.
    """

    score: int
    parts: dict[str, int]
    at: Time
    key: str | None = None
    digest: str | None = None
    network: str | None = None


class ThreatCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a period: security events, what was blocked, serious events."""

    total_events: int
    blocked_attempts: int
    high_severity_events: int
    recent_failures_10min: int


class OrgThreats(msgspec.Struct, frozen=True, kw_only=True):
    """The threats to an org in the last hours; ``level`` is LOW, MEDIUM, HIGH or CRITICAL.

    ``score`` is None while no event weighed anything.
    """

    org: str
    period_hours: int
    level: str
    score: ThreatScoreInfo | None
    metrics: ThreatCounts
    by_kind: dict[str, int]
    by_layer: dict[str, int]
    keys: list[ThreatScoreInfo]
    addresses: list[ThreatScoreInfo]
    generated_at: Time


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A review of the trail of some days, as its entry states it."""

    record_id: str
    seq: int
    recorded_at: Time
    reviewer: str
    period_start: date
    period_end: date
    notes: str


class RequestRates(msgspec.Struct, frozen=True, kw_only=True):
    """How often a minute; None: no limit."""

    append_per_minute: int | None = None
    read_per_minute: int | None = None
    verify_per_minute: int | None = None


class OrgLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The rate limits of each API key of an org, and of all of them together."""

    key: RequestRates = RequestRates()
    org: RequestRates = RequestRates()


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key's description; if not ``authentic`` it was changed in the database, and is refused.

    ``expires_at`` None is never; without ``allowed_cidrs`` the key may be used from any address.
    """

    id: str
    name: str
    role: str
    created_at: Time
    created_by: str | None = None
    expires_at: Time | None = None
    allowed_cidrs: list[str] = []
    last_used_at: Time | None = None
    rotated_to: str | None = None
    revoked_at: Time | None = None
    rotation_required: bool = False
    authentic: bool = True


class CreatedApiKey(ApiKey, frozen=True, kw_only=True):
    """A new API key. The server returns ``key`` only this once; the repr omits it."""

    key: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}(id={self.id!r}, name={self.name!r}, role={self.role!r})"


class RotatedApiKey(CreatedApiKey, frozen=True, kw_only=True):
    """The API key that replaces another one, which is valid until ``old_expires_at``."""

    replaces: str
    old_expires_at: Time

    __repr__ = CreatedApiKey.__repr__


class ApiKeyList(msgspec.Struct, frozen=True, kw_only=True):
    """A page of an org's API keys."""

    keys: list[ApiKey]
    next_cursor: str | None = None


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The identity of an API key; ``org`` is None for a platform key."""

    org: str | None
    role: str
    key_id: str
    expires_at: Time | None = None


class ArchiveProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why and since when archiving an org fails; only a platform key receives ``reason``."""

    since: datetime
    reason: str | None = None


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a trail's archive: ``size`` entries of the ``signed`` ones are archived.

    ``target`` is "folder" or "bucket"; ``retain_days`` and ``legal_hold`` are a bucket's lock.
    """

    target: str
    retain_days: int
    legal_hold: bool
    size: int
    signed: int
    objects: int
    bytes: int
    archived_at: datetime | None = None
    problem: ArchiveProblem | None = None


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """The erasure of a person's data; ``record_id`` is the entry that records it."""

    subject: str
    erased: bool
    record_id: str | None = None
