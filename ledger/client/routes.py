"""One function for each route of the server; it returns the call to send."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import uuid4

import msgspec

from ledger.client import events, models
from ledger.client.bundles import ZIP
from ledger.client.errors import InvalidArgumentError, ProtocolError
from ledger.client.protocol import Call, reader

T = TypeVar("T")

JSON = "application/json"
TLOG_PROOF = "text/x-tlog-proof"
BUNDLE_SECONDS = 120.0
"""The longest wait for a bundle to begin: the server may search entries and wait for the signer."""
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTED_CHARS = 80
_BUNDLE_FILTERS = ("event_type", "actor", "subject", "action", "outcome", "since", "until")

_receipt = reader(models.Receipt)
_batch = reader(models.BatchReceipt)
_summary = reader(models.BatchSummary)
_head = reader(models.Head)
_entry = reader(models.Entry)
_entry_page = reader(models.EntryPage)
_entry_verification = reader(models.EntryVerification)
_proof = reader(models.Proof)
_checkpoint_page = reader(models.CheckpointPage)
_job = reader(models.VerificationJob)
_org = reader(models.Org)
_org_page = reader(models.OrgPage)
_event = reader(models.SecurityEventInfo)
_threats = reader(models.OrgThreats)
_event_page = reader(models.SecurityEventPage)
_review = reader(models.Review)
_limits = reader(models.OrgLimits)
_created_key = reader(models.CreatedApiKey)
_rotated_key = reader(models.RotatedApiKey)
_key = reader(models.ApiKey)
_key_list = reader(models.ApiKeyList)
_identity = reader(models.Identity)
_erasure = reader(models.Erasure)


def whoami() -> Call[models.Identity]:
    return Call("GET", "/v1/whoami", _identity, repeatable=True)


def append(org: str, event: bytes, idempotency_key: str | None) -> Call[models.Receipt]:
    """Append one encoded event; the idempotency key defaults to a new random one."""
    return _append(org, event, idempotency_key, _receipt)


def append_batch(
    org: str, encoded: Sequence[bytes], idempotency_key: str | None
) -> Call[models.BatchReceipt]:
    """Append several encoded events; the answer must have one receipt for each."""

    def parse(body: bytes) -> models.BatchReceipt:
        receipt = _batch(body)
        _expect(len(receipt.entries), len(encoded))
        return receipt

    return _append(org, events.array(encoded), idempotency_key, parse)


def append_minimal(
    org: str, encoded: Sequence[bytes], idempotency_key: str | None
) -> Call[models.BatchSummary]:
    def parse(body: bytes) -> models.BatchSummary:
        summary = _summary(body)
        _expect(summary.count, len(encoded))
        return summary

    body = events.array(encoded)
    return _append(org, body, idempotency_key, parse, {"prefer": "return=minimal"})


def _append(
    org: str,
    body: bytes,
    idempotency_key: str | None,
    parse: Callable[[bytes], T],
    headers: Mapping[str, str] | None = None,
) -> Call[T]:
    # Every append has a key, so that it can be sent again when its answer was lost.
    key = uuid4().hex if idempotency_key is None else idempotency_key
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidArgumentError(
            "an idempotency key must be one or more printable ASCII characters"
        )
    return Call(
        "POST",
        f"/v1/orgs/{segment(org)}/entries",
        parse,
        headers={"content-type": JSON, "idempotency-key": key, **(headers or {})},
        body=body,
        repeatable=True,
        idempotency_key=key,
    )


def _expect(answered: int, sent: int) -> None:
    if answered != sent:
        raise ValueError(f"its number of entries is {answered}, but {sent} events were sent")


def head(org: str) -> Call[models.Head]:
    return _get(f"/v1/orgs/{segment(org)}/head", _head)


def entry(org: str, record_id: str) -> Call[models.Entry]:
    return _get(f"/v1/orgs/{segment(org)}/entries/{segment(record_id)}", _entry)


def payload(org: str, record_id: str) -> Call[bytes]:
    return _get(f"/v1/orgs/{segment(org)}/entries/{segment(record_id)}/payload", bytes)


def entries(org: str, filters: models.EntryFilters, cursor: str | None) -> Call[models.EntryPage]:
    """Read a page. Raises TypeError for an unknown filter: ignoring it would show too much."""
    if unknown := filters.keys() - models.EntryFilters.__annotations__.keys():
        raise TypeError(f"entries() has no filter {', '.join(sorted(unknown))}")
    query: dict[str, object] = {**filters, "cursor": cursor}
    query["limit"] = query.pop("page_size", None)
    return _get(f"/v1/orgs/{segment(org)}/entries", _entry_page, query_of(query))


def proof(
    org: str,
    record_id: str,
    size: int | None,
    anchored: bool,
) -> Call[models.Proof]:
    """Read a proof; the call is retried while no checkpoint includes the entry."""
    path = f"/v1/orgs/{segment(org)}/entries/{segment(record_id)}/proof"
    return _get(path, _proof, query_of({"size": size, "anchored": "true" if anchored else None}))


def proof_file(
    org: str,
    record_id: str,
    size: int | None,
    anchored: bool,
) -> Call[bytes]:
    call = proof(org, record_id, size, anchored)
    headers = {"accept": TLOG_PROOF}
    return Call(call.method, call.path, bytes, query=call.query, headers=headers, repeatable=True)


def checkpoints(org: str, cursor: str | None) -> Call[models.CheckpointPage]:
    path = f"/v1/orgs/{segment(org)}/checkpoints"
    return _get(path, _checkpoint_page, query_of({"cursor": cursor}))


def log_checkpoint(org: str) -> Call[bytes]:
    return _get(f"/v1/orgs/{segment(org)}/log/checkpoint", bytes)


def bundle(org: str, request: models.BundleRequest) -> Call[None]:
    """Request a bundle; the answer is a stream and not parsed.

    Every request records its disclosures. Raises TypeError for an unknown argument: ignoring it
    would show too much.
    """
    if unknown := request.keys() - models.BundleRequest.__annotations__.keys():
        raise TypeError(f"export_evidence_bundle() takes no {', '.join(sorted(unknown))}")
    given = {name: value for name, value in request.items() if value is not None}
    attestation = given.pop("include_quantum_attestation", None)
    if attestation is not None and given.setdefault("include_pq_attestation", attestation) != (
        attestation
    ):
        raise InvalidArgumentError(
            "include_quantum_attestation and include_pq_attestation are two names of one option: "
            "give one of them"
        )
    document = {name: value for name, value in given.items() if name not in _BUNDLE_FILTERS}
    where = query_of({name: given[name] for name in _BUNDLE_FILTERS if name in given})
    if where:
        document["filter"] = where
    return Call(
        "POST",
        f"/v1/orgs/{segment(org)}/bundles",
        lambda _: None,
        headers={"content-type": JSON, "accept": f"{ZIP}, application/problem+json"},
        body=_encoded(document),
        repeatable=True,
        patience_seconds=BUNDLE_SECONDS,
    )


def verify_entry(record_id: str | int) -> Call[models.EntryVerification]:
    return _get(f"/admin/compliance/verify/{segment(str(record_id))}", _entry_verification)


def start_verification(
    org: str, from_seq: int | None, to_seq: int | None, wait_seconds: int
) -> Call[models.VerificationJob]:
    """Start a job; not repeatable, as each call starts one. ``wait_seconds`` 0 returns at once."""
    given = {"from_seq": from_seq, "to_seq": to_seq}
    path = f"/v1/orgs/{segment(org)}/verifications"
    query = {"wait": str(wait_seconds)} if wait_seconds else {}
    return _send("POST", path, _job, {k: v for k, v in given.items() if v is not None}, query)


def verification(org: str, job_id: str) -> Call[models.VerificationJob]:
    return _get(f"/v1/orgs/{segment(org)}/verifications/{segment(job_id)}", _job)


def create_org(slug: str, name: str, privacy: str) -> Call[models.Org]:
    return _send("POST", "/v1/orgs", _org, {"slug": slug, "name": name, "privacy": privacy})


def orgs(cursor: str | None) -> Call[models.OrgPage]:
    return _get("/v1/orgs", _org_page, query_of({"cursor": cursor}))


def security_events(
    slug: str, cursor: str | None, wanted: models.EventFilters
) -> Call[models.SecurityEventPage]:
    """List security events; the filters' ``acknowledged`` is sent as true or false."""
    given: dict[str, object] = {**wanted, "cursor": cursor}
    if given.get("acknowledged") is not None:
        given["acknowledged"] = str(given["acknowledged"]).lower()
    return _get(f"/v1/orgs/{segment(slug)}/security-events", _event_page, query_of(given))


def threats(slug: str) -> Call[models.OrgThreats]:
    return _get(f"/v1/orgs/{segment(slug)}/threats", _threats)


def acknowledge_event(slug: str, event_id: int, reason: str) -> Call[models.SecurityEventInfo]:
    path = f"/v1/orgs/{segment(slug)}/security-events/{event_id}/acknowledge"
    return _send("POST", path, _event, {"reason": reason})


def record_review(slug: str, first: str, last: str, notes: str) -> Call[models.Review]:
    body = {"period_start": first, "period_end": last, "notes": notes}
    return _send("POST", f"/v1/orgs/{segment(slug)}/reviews", _review, body)


def org(slug: str) -> Call[models.Org]:
    return _get(f"/v1/orgs/{segment(slug)}", _org)


def update_org(
    slug: str,
    name: str | None,
    log_public: bool | None,
    entries_a_day: int | None = None,
    bytes_a_day: int | None = None,
    max_key_age_days: int | None = None,
) -> Call[models.Org]:
    """Change an org; None leaves a field as it is."""
    given = {
        "name": name,
        "log_public": log_public,
        "entries_a_day": entries_a_day,
        "bytes_a_day": bytes_a_day,
        "max_key_age_days": max_key_age_days,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    return _send("PATCH", f"/v1/orgs/{segment(slug)}", _org, changes, repeatable=True)


def limits(slug: str) -> Call[models.OrgLimits]:
    return _get(f"/v1/orgs/{segment(slug)}/limits", _limits)


def set_limits(slug: str, asked: models.OrgLimits) -> Call[models.OrgLimits]:
    """Set all limits of an org."""
    path = f"/v1/orgs/{segment(slug)}/limits"
    return _send("PUT", path, _limits, msgspec.to_builtins(asked), repeatable=True)


def thaw(slug: str, reason: str) -> Call[models.Org]:
    return _send("POST", f"/v1/orgs/{segment(slug)}/thaw", _org, {"reason": reason})


def create_key(
    slug: str, name: str, role: str, expires_in_days: int | None, allowed_cidrs: Sequence[str]
) -> Call[models.CreatedApiKey]:
    """Create a key; not repeatable: after a lost answer a key may exist that no one has."""
    body = {
        "name": name,
        "role": role,
        "expires_in_days": expires_in_days,
        "allowed_cidrs": list(allowed_cidrs),
    }
    return _send("POST", f"/v1/orgs/{segment(slug)}/keys", _created_key, body)


def keys(slug: str, cursor: str | None) -> Call[models.ApiKeyList]:
    query = query_of({"limit": 1000, "cursor": cursor})
    return _get(f"/v1/orgs/{segment(slug)}/keys", _key_list, query)


def update_key(
    slug: str, key_id: str, name: str | None, allowed_cidrs: Sequence[str] | None
) -> Call[models.ApiKey]:
    """Change a key; None leaves a member as it is."""
    changes: dict[str, object] = {} if name is None else {"name": name}
    if allowed_cidrs is not None:
        changes["allowed_cidrs"] = list(allowed_cidrs)
    return _send("PATCH", _one_key(slug, key_id), _key, changes, repeatable=True)


def rotate_key(slug: str, key_id: str, overlap_hours: int) -> Call[models.RotatedApiKey]:
    """Replace a key by a new one; not repeatable: after a lost answer nobody has the new one."""
    body = {"overlap_hours": overlap_hours}
    return _send("POST", f"{_one_key(slug, key_id)}/rotate", _rotated_key, body)


def revoke_key(slug: str, key_id: str) -> Call[None]:
    return _send("DELETE", _one_key(slug, key_id), lambda _: None)


def _one_key(slug: str, key_id: str) -> str:
    return f"/v1/orgs/{segment(slug)}/keys/{segment(key_id)}"


def erase_subject(slug: str, subject: str) -> Call[models.Erasure]:
    """Erase a subject, named in the body, as a proxy may change a path.

    Parsing an answer that names another subject raises ProtocolError.
    """

    def parse(body: bytes) -> models.Erasure:
        erasure = _erasure(body)
        if erasure.subject != subject:
            raise ProtocolError(
                f"{quoted(subject)} was to be erased from org {slug}, but the server answered that "
                f"{quoted(erasure.subject)} is erased. A proxy between this client and the server "
                "may change requests: find out before you erase anything else"
            )
        return erasure

    if not subject:
        raise InvalidArgumentError("the subject to erase is empty: give its name")
    return _send("POST", f"/v1/orgs/{segment(slug)}/erasures", parse, {"subject": subject})


def archive(org: str, wait_seconds: int) -> Call[models.Archive]:
    """Archive a trail; an entry that is archived already is not archived again."""
    path = f"/v1/orgs/{segment(org)}/archive"
    return _send("POST", path, reader(models.Archive), {}, {"wait": str(wait_seconds)})


def archive_status(org: str) -> Call[models.Archive]:
    return _get(f"/v1/orgs/{segment(org)}/archive", reader(models.Archive))


def own_org(identity: models.Identity) -> str:
    """Return the org that a key belongs to."""
    if identity.org is None:
        raise InvalidArgumentError("this API key belongs to no org: name an org with org=")
    return identity.org


def advanced(cursor: str | None, next_cursor: str) -> str:
    """Return the next cursor; raise ProtocolError where it is the same, which would never end."""
    if next_cursor == cursor:
        raise ProtocolError("the server returned the same page twice; please report this")
    return next_cursor


def segment(value: str) -> str:
    """Return ``value`` as one path segment; refuse a value that could lead to another path.

    A proxy may decode a percent-encoded segment and resolve it: a key with the id
    "../subjects/bob" would name a person. No slug and no id needs encoding.
    """
    if _SEGMENT.fullmatch(value) is None or not value.strip("."):
        raise InvalidArgumentError(
            f"{quoted(value)} can't be an org or an id: use only letters, digits and - _ . ~"
        )
    return value


def quoted(text: str) -> str:
    """Return ``text`` for a message: in quotes, on one line, cut where it is long."""
    shown = text if len(text) <= _QUOTED_CHARS else f"{text[:_QUOTED_CHARS]}…"
    return repr(shown)  # which escapes characters that do not print


def query_of(values: Mapping[str, object]) -> dict[str, str]:
    """Return query parameters as text, without those that are None."""
    return {name: _query_text(name, v) for name, v in values.items() if v is not None}


def _query_text(name: str, value: object) -> str:
    if not isinstance(value, datetime):
        return _unicode(name, str(value))
    if value.utcoffset() is None:
        raise InvalidArgumentError(f"{name} needs a time zone: {value} has none")
    return value.isoformat()


def _unicode(name: str, text: str) -> str:
    """Return ``text``. Raises InvalidArgumentError for half a surrogate pair, which UTF-8 lacks."""
    if _SURROGATE.search(text) is not None:
        raise InvalidArgumentError(
            f"{name} is not valid Unicode: {quoted(text)} holds half of a surrogate pair"
        )
    return text


def _encoded(document: Mapping[str, object]) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        raise InvalidArgumentError(
            f"{_not_unicode(document)} is not valid Unicode: it holds half of a surrogate pair"
        ) from None


def _not_unicode(document: Mapping[str, object]) -> str:
    """Return the name of the member that can't be encoded."""
    for name, value in document.items():
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError:
            return name
    return "a name"


def _get(path: str, parse: Callable[[bytes], T], query: Mapping[str, str] | None = None) -> Call[T]:
    return Call("GET", path, parse, query=query or {}, repeatable=True)


def _send(
    method: str,
    path: str,
    parse: Callable[[bytes], T],
    document: Mapping[str, object] | None = None,
    query: Mapping[str, str] | None = None,
    *,
    repeatable: bool = False,
) -> Call[T]:
    body = None if document is None else _encoded(document)
    headers = {} if body is None else {"content-type": JSON}
    return Call(
        method, path, parse, query=query or {}, headers=headers, body=body, repeatable=repeatable
    )
