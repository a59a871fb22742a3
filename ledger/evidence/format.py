"""The JSON members of an evidence bundle, and the bounds of all its parts.

They are canonical JSON (RFC 8785): fields are declared in their sorted order, every field is
always present, and a reader takes no other form. ``docs/format.md`` describes the format.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from ledger.entry import MAX_SEQ
from ledger.errors import EvidenceError
from ledger.malformed import misfit
from ledger.sealing import REF_PREFIX

FORMAT: Final = "quire-evidence-bundle"
VERSION: Final = 1

ENTRIES_MAX: Final = 200_000
MEMBERS_MAX: Final = 300_000
BATCH_ENTRIES_MAX: Final = 1_000
BATCH_BYTES: Final = 1 << 22
"""The most bytes of one leaves or payloads member; only a single line may be longer."""
MEMBER_BYTES_MAX: Final = 1 << 26
"""The most bytes of any member but the manifest; the largest holds one payload in base64."""
MANIFEST_BYTES_MAX: Final = 1 << 27
TOKENS_MAX: Final = 16

State = Literal["plain", "disclosed", "sealed", "erased", "withheld"]
"""The state of a payload: ``plain`` in an org that does not seal; ``disclosed`` with the key
that opens it; ``sealed`` without the key; ``erased``: the key no longer exists; ``withheld``:
the payload is not in the bundle."""
Field = Literal["payload", "actor", "subject"]
_Hex = Annotated[
    str,
    Meta(
        pattern=r"\A[0-9a-f]{64}\Z",
        extra_json_schema={"description": "64 hex digits in lower case"},
    ),
]
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A selection of entries by their fields; times are RFC 3339, ``since`` <= t < ``until``."""

    action: str | None = None
    actor: str | None = None
    event_type: str | None = None
    outcome: str | None = None
    since: str | None = None
    subject: str | None = None
    until: str | None = None


class Disclose(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The plaintext that was requested: the records, and the fields of each."""

    fields: tuple[Field, ...]
    records: Literal["all"] | tuple[str, ...]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The request for the bundle. Exactly one of record ids, range and filter is given.

    The range includes ``from_seq`` and ``to_seq``. A request is not signed.
    """

    disclose: Disclose | None = None
    filter: Filter | None = None
    from_seq: _Seq | None = None
    include_merkle_proofs: bool = True
    include_payloads: bool = True
    include_pq_attestation: bool = True
    record_ids: tuple[str, ...] | None = None
    to_seq: _Seq | None = None


class Entries(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The number of entries, and the ``seq`` of the first and the last."""

    count: Annotated[int, Meta(ge=1, le=ENTRIES_MAX)]
    first_seq: _Seq
    last_seq: _Seq


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A member of the zip: its name, its size in bytes and its digests in hex."""

    blake3: _Hex
    name: Annotated[str, Meta(max_length=64)]
    sha256: _Hex
    size: Annotated[int, Meta(ge=0, le=MEMBER_BYTES_MAX)]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``manifest.json``: a description of the bundle, and the other members in the zip's order.

    ``checkpoint`` and ``anchor`` are sizes; ``anchor`` is null in a bundle without an anchor.
    """

    anchor: _Count | None
    checkpoint: _Count
    entries: Entries
    format: Literal["quire-evidence-bundle"]
    members: Annotated[tuple[Member, ...], Meta(max_length=MEMBERS_MAX)]
    org: Annotated[str, Meta(max_length=63)]
    origin: Annotated[str, Meta(max_length=255)]
    request: Request
    version: Literal[1]


class BundledLeaf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """``checkpoints/<size>.json``: the checkpoint's leaf in the anchor log, with its nonce."""

    anchor_index: _Count
    anchor_size: _Count
    nonce: _Hex
    size: _Count


class PayloadLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One line of a payloads member.

    ``payload`` is the stored bytes (base64 in the JSON), None where withheld; ``key`` is the
    payload's own key in hex where the payload is disclosed, else None.
    """

    key: _Hex | None
    payload: bytes | None
    seq: _Seq
    state: State


T = TypeVar("T")
encode = msgspec.json.Encoder().encode
"""Encodes any of these structs as canonical JSON (RFC 8785)."""


def decode(decoder: msgspec.json.Decoder[T], data: bytes, name: str) -> T:
    """Decode canonical JSON. Raises EvidenceError, which says ``name``, for any other bytes."""
    try:
        decoded = decoder.decode(data)
        canonical = encode(decoded)
    except msgspec.ValidationError as error:
        reason = misfit(error, decoder.type)
        raise EvidenceError(f"{name} can't be read: {reason[:_REASON_CHARS_MAX]}") from None
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise EvidenceError(f"{name} can't be read: {str(error)[:_REASON_CHARS_MAX]}") from None
    if canonical != data:
        raise EvidenceError(f"{name} is not in canonical form (RFC 8785)")
    return decoded


_REASON_CHARS_MAX: Final = 200
read_manifest: Final = msgspec.json.Decoder(Manifest)
read_anchor_leaf: Final = msgspec.json.Decoder(BundledLeaf)
read_payload: Final = msgspec.json.Decoder(PayloadLine)
_read_names: Final = msgspec.json.Decoder(dict[str, str])


def decode_names(data: bytes, name: str) -> dict[str, str]:
    """Decode ``names.json``: refs and their names. Raises EvidenceError."""
    names = decode(_read_names, data, name)
    if not all(ref.startswith(REF_PREFIX) for ref in names):
        raise EvidenceError(f"{name} names something that is not a ref")
    if list(names) != sorted(names):
        raise EvidenceError(f"{name} is not in canonical form (RFC 8785)")
    return names
