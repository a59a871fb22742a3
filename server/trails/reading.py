"""Reads entries for a caller: filters, cursors, and the payloads and names it may see."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ledger import sealing
from ledger.chain import StoredEntry
from ledger.core.org import OrgFacts
from ledger.core.reading.trail import TrailReader
from ledger.core.sealing.opener import Opener, opener, ref_of
from ledger.core.sealing.sealer import Sealer
from ledger.entry import (
    Leaf,
    decode_leaf,
    from_datetime,
    has_control,
    record_id,
    search_tag,
)
from ledger.errors import (
    INVALID_REQUEST,
    FormatError,
    InvalidTime,
    KeyNotRestored,
    QuireError,
    SealingError,
)
from ledger.event import RESERVED_PREFIX, is_json_payload
from ledger.pieces import piece
from ledger.rows import RowNotAuthentic
from ledger.shapes import HashHex, RecordIdText, Seq, TimeText, shape
from ledger.storage.entries.search import EntrySearch, Page
from ledger.times import bound

PayloadFormat = Annotated[
    Literal["json", "msgpack", "sealed"],
    shape(
        "PayloadFormat",
        "How the payload is shown: as JSON, as the bytes of MessagePack, or not at all, as the "
        "caller may not open it or nobody can.",
        "json",
    ),
]
OPENED_AT_ONCE: Final = 100
"""Entries whose persons are looked up at once."""
SHOWN_AT_ONCE: Final = 25
"""Entries that are opened without a pause: about a millisecond."""
LEAF_FILTERS: Final = ("event_type", "action", "outcome", "data_classification")


class InvalidFilter(QuireError):
    """A query parameter that can't be used."""

    problem_type = INVALID_REQUEST


class EntryBody(msgspec.Struct, gc=False):
    """One entry. A field that the event does not have is null."""

    record_id: RecordIdText
    """The id of the entry."""
    seq: Seq
    """The number of the entry in its trail."""
    entry_hash: HashHex
    """The hash of the entry's leaf: SHA-256(0x00 ‖ leaf)."""
    previous_hash: HashHex | None
    """The hash of the entry before it; null for the first of the trail."""
    anchored_at: TimeText
    """When the entry was written."""
    signature: HashHex
    """The signature over the entry hash: HMAC-SHA256 with a key of the server."""
    key: Annotated[str, Meta(examples=["env-5f0c6d1f8a0f"])]
    """The id of the key that signed; empty where the entry was altered beyond reading."""
    event_type: Annotated[str, Meta(examples=["invoice.approved"])] | None
    """The kind of event, as the caller named it."""
    actor: Annotated[str, Meta(examples=["ada@example.com"])] | None
    """The person or program that acted; in an org that seals, a viewer sees a ref ("ref:…")."""
    action: Annotated[str, Meta(examples=["approve"])] | None
    """The act."""
    outcome: Annotated[str, Meta(examples=["success"])] | None
    """How the act ended."""
    subject: Annotated[str, Meta(examples=["bob@example.com"])] | None
    """The person whom the event concerns; in an org that seals, a viewer sees a ref ("ref:…")."""
    timestamp: Annotated[str, Meta(examples=["2026-01-31"])] | None
    """When the event happened, as the caller wrote it: an RFC 3339 time, or a date."""
    data_classification: Annotated[str, Meta(examples=["confidential"])] | None
    """How confidential the data is, in the caller's terms."""
    legal_basis: Annotated[str, Meta(examples=["contract"])] | None
    """Why the data may be processed, in the caller's terms."""
    payload: Annotated[
        msgspec.Raw, Meta(examples=[{"event_type": "invoice.approved", "actor": "ada@example.com"}])
    ]
    """The event as JSON, as it was sent; null where it is MessagePack, sealed to this caller, or
    erased."""
    payload_format: PayloadFormat
    """How the payload is shown."""
    payload_base64: Annotated[str | None, Meta(examples=[None, "gaVhY3RvcqNhZGE="])]
    """The event as MessagePack, in base64; null in any other format."""
    sealed: bool
    """Whether the payload is encrypted."""
    erased: Annotated[bool, Meta(examples=[False])]
    """Whether the key of the subject was destroyed, so that nobody can open the payload."""
    key_not_restored: Annotated[bool, Meta(examples=[False])]
    """Whether the org came back from its archive without the key that opens the payload; the key
    may still be in a backup."""


_NULL: Final = msgspec.Raw(b"null")


class EntryQuery(msgspec.Struct, kw_only=True):
    """The filters, order and limit of a page of entries."""

    event_type: str | None = None
    action: str | None = None
    outcome: str | None = None
    data_classification: str | None = None
    actor: str | None = None
    subject: str | None = None
    since: str | None = None
    until: str | None = None
    cursor: str | None = None
    descending: bool = True
    limit: int = 100


async def find(
    trail: TrailReader,
    sealer: Sealer,
    org: OrgFacts,
    query: EntryQuery,
    *,
    may_open: bool,
) -> Page:
    """Return one page of entries. Raises InvalidFilter."""
    from_seq = None if query.cursor is None else _parse_cursor(query.cursor)
    resolved = await resolve(sealer, org, query, may_open=may_open)
    if resolved is None:
        return Page([], None)
    return await trail.page(
        org.id,
        where_of(resolved),
        from_seq=from_seq,
        descending=query.descending,
        limit=query.limit,
    )


async def resolve(
    sealer: Sealer, org: OrgFacts, query: EntryQuery, *, may_open: bool
) -> EntryQuery | None:
    """Return the query in terms of leaves: in an org that seals, names are replaced by refs.

    Returns None if a name has no ref. A caller who may not open sealed payloads may not search by
    name either, which would reveal refs. Raises InvalidFilter.
    """
    where_of(query)  # an invalid filter is reported before any name is looked up
    people = {"actor": query.actor, "subject": query.subject}
    if org.seals:
        for role, name in people.items():
            if name is not None and not sealing.is_ref(name):
                if not may_open:
                    raise InvalidFilter(f'{role}: this API key may search by ref only ("ref:…")')
                people[role] = ref = await ref_of(sealer, org, name)
                if ref is None:
                    return None
    return msgspec.structs.replace(query, **people)


def where_of(query: EntryQuery) -> EntrySearch:
    """Return the search of a resolved query. Raises InvalidFilter."""
    since, until = _moment("since", query.since), _moment("until", query.until)
    named = {name: getattr(query, name) for name in ("actor", "subject", *LEAF_FILTERS)}
    for name, value in named.items():
        if value is not None and has_control(value):
            raise InvalidFilter(f"{name} has a control character, which no entry's {name} can have")
    tags = search_tag(query.actor), search_tag(query.subject)
    return EntrySearch(*tags, [*_patterns(named)], since, until)


def _patterns(named: dict[str, str | None]) -> list[bytes]:
    """Return, for each field, the bytes that a leaf has if the field has this value."""
    return [
        f'"{name}":'.encode() + msgspec.json.encode(value) + b","
        for name, value in named.items()
        if value is not None
    ]


def cursor_of(seq: int) -> str:
    """Return an opaque cursor for the page that begins at this seq."""
    return base64.urlsafe_b64encode(b"1" + seq.to_bytes(8, "big")).rstrip(b"=").decode()


def _parse_cursor(text: str) -> int:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 9 or raw[:1] != b"1" or raw[1] > 0x7F:
        raise InvalidFilter("cursor must be a next_cursor of an earlier page")
    return int.from_bytes(raw[1:], "big")


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    if "T" in text or "t" in text:
        text = text.replace(" ", "+")  # a "+" that was not percent-encoded arrives as a space
    try:
        return bound(text)
    except InvalidTime as error:
        raise InvalidFilter(f"{name} {error}") from None


async def show(
    sealer: Sealer,
    org: OrgFacts,
    entries: Sequence[StoredEntry],
    *,
    may_open: bool,
) -> list[EntryBody]:
    """Return entries in the form that the caller may see."""
    shown: list[EntryBody] = []
    for first in range(0, len(entries), OPENED_AT_ONCE):
        some = entries[first : first + OPENED_AT_ONCE]
        if len(entries) > SHOWN_AT_ONCE:
            await piece(org.id)
        leaves = [_leaf(entry) for entry in some]
        opened = await _opener(sealer, org, leaves)
        for place in range(0, len(some), SHOWN_AT_ONCE):
            if place:
                await piece(org.id)
            few = slice(place, place + SHOWN_AT_ONCE)
            shown += [
                _body(entry, leaf, opened, may_open)
                for entry, leaf in zip(some[few], leaves[few], strict=True)
            ]
    return shown


async def _opener(sealer: Sealer, org: OrgFacts, leaves: Sequence[Leaf | None]) -> Opener | None:
    if not org.seals:
        return None
    refs = [
        ref
        for leaf in leaves
        if leaf is not None
        for ref in (leaf.actor, leaf.subject, leaf.payload.seal)
    ]
    return await opener(sealer, org, refs)


def _leaf(entry: StoredEntry) -> Leaf | None:
    """Return the leaf, None if it is damaged: the other fields are still shown."""
    try:
        return decode_leaf(entry.leaf)
    except FormatError:
        return None


def _body(
    entry: StoredEntry, leaf: Leaf | None, opened: Opener | None, may_open: bool
) -> EntryBody:
    payload, erased, sealed, lost = entry.payload, False, False, False
    name = _as_is
    if leaf is not None and leaf.payload.seal is not None and opened is not None:
        sealed = True
        erased = opened.is_erased(leaf.payload.seal, entry.seq)
        lost = opened.is_lost(leaf.payload.seal, entry.seq)
        payload = (may_open and _open(opened, leaf.payload.seal, entry)) or b""
        name = opened.name if may_open else _as_is
    form, shown, encoded = _payload(payload, sealed)
    anchored_us = from_datetime(entry.anchored_at)
    return EntryBody(
        record_id(entry.org_id, anchored_us, entry.seq),
        entry.seq,
        entry.entry_hash.hex(),
        leaf.previous_hash if leaf else None,
        leaf.anchored_at if leaf else entry.anchored_at.isoformat(),
        entry.signature.hex(),
        leaf.key if leaf else "",
        leaf.event_type if leaf else None,
        name(leaf.actor) if leaf else None,
        leaf.action if leaf else None,
        leaf.outcome if leaf else None,
        name(leaf.subject) if leaf else None,
        leaf.timestamp if leaf else None,
        leaf.data_classification if leaf else None,
        leaf.legal_basis if leaf else None,
        shown,
        form,
        encoded,
        sealed,
        erased,
        lost,
    )


def opened_of(shown: Sequence[EntryBody]) -> list[int]:
    """Return the seqs of callers' entries whose sealed payloads are shown."""
    return [
        entry.seq
        for entry in shown
        if entry.sealed
        and entry.payload_format != "sealed"
        and not (entry.event_type or "").startswith(RESERVED_PREFIX)
    ]


def is_own(entry: StoredEntry) -> bool:
    """Return whether the server itself wrote an entry; opening those is not recorded."""
    leaf = _leaf(entry)
    return leaf is not None and (leaf.event_type or "").startswith(RESERVED_PREFIX)


def _as_is(ref: str | None) -> str | None:
    return ref


def _payload(payload: bytes, sealed: bool) -> tuple[PayloadFormat, msgspec.Raw, str | None]:
    if not payload and sealed:
        return "sealed", _NULL, None
    if is_json_payload(payload) and _is_json(payload):
        return "json", msgspec.Raw(payload), None
    return "msgpack", _NULL, base64.b64encode(payload).decode()


def _is_json(payload: bytes) -> bool:
    """Return whether stored bytes are valid in a JSON answer; damaged ones are not."""
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _open(opened: Opener, seal: str, entry: StoredEntry) -> bytes | None:
    try:
        return opened.payload(seal, entry.payload, entry.seq)
    except (KeyNotRestored, RowNotAuthentic, SealingError, FormatError):
        return None


async def payload_bytes(sealer: Sealer, org: OrgFacts, entry: StoredEntry) -> bytes | None:
    """Return the exact bytes of an event as it was sent; None if its subject is erased.

    Raises KeyNotRestored, and SealingError or FormatError for an entry that was altered.
    """
    leaf = decode_leaf(entry.leaf)
    seal = leaf.payload.seal
    if seal is None:
        return entry.payload
    opened = await opener(sealer, org, [seal])
    return opened.payload(seal, entry.payload, entry.seq)
