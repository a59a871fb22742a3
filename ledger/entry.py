"""The leaf: an entry's canonical bytes, and the values derived from them.

The leaf is RFC 8785 canonical JSON. The chain and the Merkle tree commit to
these bytes and nothing else: ``entry_hash = SHA-256(0x00 || leaf)``, which is
the RFC 6962 section 2.1 leaf hash. ``docs/format.md`` describes the format.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from blake3 import blake3

from ledger.errors import MalformedLeaf, MalformedRecordId
from ledger.malformed import json_fault

LEAF_VERSION: Final = 1
MAX_LEAF_BYTES: Final = 65_535
"""An entry bundle of C2SP tlog-tiles stores a leaf behind a 16-bit length."""
HASH_BYTES: Final = 32
MAX_ORG_ID: Final = 2**32 - 1
MAX_SEQ: Final = 2**40 - 1
MAX_TIME_US: Final = 2**56 - 1
"""4253-05-31T22:20:37.927935Z, the last time that a record id can hold."""
MAX_SIZE_BYTES: Final = 2**53 - 1
"""The largest integer that RFC 8785 can represent."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class PayloadDigest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The leaf's commitment to the payload: BLAKE3-256 as hex, seal ref, size in bytes."""

    blake3: str
    seal: str | None
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE_BYTES)]


class Leaf(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The fields of a version 1 leaf, declared in the order RFC 8785 sorts them.

    This order makes :func:`encode_leaf` canonical without sorting; a property
    test compares it with an independent implementation.
    """

    action: str | None
    actor: str | None
    anchored_at: str
    data_classification: str | None
    event_type: str | None
    key: str
    legal_basis: str | None
    org: str
    outcome: str | None
    payload: PayloadDigest
    previous_hash: str | None
    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
    subject: str | None
    timestamp: str | None
    v: Literal[1] = LEAF_VERSION


encode_leaf_unchecked = msgspec.json.Encoder().encode
"""Encode a leaf whose strings hold no control characters, as the caller has checked."""

encode_leaf_into = msgspec.json.Encoder().encode_into
"""Encode a leaf into a reusable buffer; cheaper if leaves are only compared."""

_decode = msgspec.json.Decoder(Leaf).decode


def has_control(text: str) -> bool:
    """Return whether the text holds a character of Unicode category Cc."""
    return not text.isprintable() and _CONTROL.search(text) is not None


def encode_leaf(leaf: Leaf) -> bytes:
    """Encode a leaf canonically (RFC 8785).

    Raises MalformedLeaf for a leaf that :func:`decode_leaf` would refuse: a
    control character, a number out of its bounds, more than 65,535 bytes.
    """
    try:
        encoded = encode_leaf_unchecked(leaf)
    except UnicodeError:
        raise MalformedLeaf("the leaf holds half of a surrogate pair") from None
    except OverflowError:
        raise MalformedLeaf("the leaf holds a number that is out of range") from None
    decode_leaf(encoded)
    return encoded


def decode_leaf(leaf: bytes) -> Leaf:
    """Decode leaf bytes, accepting nothing but the canonical encoding.

    Raises MalformedLeaf for other bytes, including JSON with the same meaning.
    """
    if len(leaf) > MAX_LEAF_BYTES:
        raise MalformedLeaf(f"the leaf has {len(leaf)} bytes, more than {MAX_LEAF_BYTES}")
    try:
        decoded = _decode(leaf)
        canonical = encode_leaf_unchecked(decoded)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedLeaf(f"the leaf can't be read: {json_fault(leaf, error)}") from None
    if canonical != leaf:
        raise MalformedLeaf("the leaf is not in canonical form (RFC 8785)")
    # Canonical JSON escapes a control character below U+0020; the others begin
    # with the byte 7F or C2. Few leaves need the full check.
    if b"\\" in leaf or b"\x7f" in leaf or b"\xc2" in leaf:
        _check_strings(decoded)
    if (decoded.previous_hash is None) != (decoded.seq == 0):
        raise MalformedLeaf(
            "previous_hash must be null in the first leaf of a trail, and only there"
        )
    return decoded


def _check_strings(leaf: Leaf) -> None:
    for part in (leaf, leaf.payload):
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if isinstance(value, str) and has_control(value):
                raise MalformedLeaf(f'the field "{name}" of the leaf holds a control character')


def entry_hash(leaf: bytes) -> bytes:
    """Return the RFC 6962 leaf hash of the leaf: 32 bytes."""
    return sha256(b"\x00" + leaf).digest()


def payload_digest(payload: bytes, seal: str | None) -> PayloadDigest:
    """Return the leaf's commitment to the stored payload bytes."""
    return PayloadDigest(blake3(payload).hexdigest(), seal, len(payload))


@lru_cache(maxsize=16_384)
def search_tag(value: str | None) -> int:
    """Return the 24-bit tag that selects entries of an actor or subject; 0 if it is absent.

    The first 3 bytes of SHA-256 over the UTF-8 value, big-endian. Zero is
    reserved for "absent", so a hash that starts with three zero bytes counts as 1.
    """
    if value is None:
        return 0
    return int.from_bytes(sha256(value.encode()).digest()[:3], "big") or 1


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_datetime(time_us: int) -> datetime:
    """Convert microseconds since the Unix epoch to an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def from_datetime(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since the Unix epoch, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def format_time(time_us: int) -> str:
    """Format microseconds since the Unix epoch as RFC 3339 UTC with six decimals."""
    return to_datetime(time_us).isoformat(timespec="microseconds")[:-6] + "Z"


def rfc3339(moment: datetime) -> str:
    """An aware datetime as RFC 3339 UTC with six decimals."""
    return format_time(from_datetime(moment))


class RecordId(NamedTuple):
    """The parts of a record id: enough to find the row by its primary key."""

    org_id: int
    anchored_us: int
    seq: int


_RECORD_ID = re.compile(r"rec_([0-9a-f]{8})([0-9a-f]{14})([0-9a-f]{10})")


def record_id(org_id: int, anchored_us: int, seq: int) -> str:
    """Return the public id of an entry: ``rec_`` and 32 hex digits."""
    return f"{record_id_prefix(org_id, anchored_us)}{seq:010x}"


def record_id_prefix(org_id: int, anchored_us: int) -> str:
    """Return a record id without its seq; the entries of one batch share this prefix."""
    return f"rec_{org_id:08x}{anchored_us:014x}"


def parse_record_id(text: str) -> RecordId:
    """Parse a record id. Raises MalformedRecordId."""
    match = _RECORD_ID.fullmatch(text)
    if match is None:
        raise MalformedRecordId('a record id is "rec_" and 32 lower-case hex digits')
    org_id, anchored_us, seq = (int(group, 16) for group in match.groups())
    return RecordId(org_id, anchored_us, seq)
