"""The request for an evidence bundle."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from ledger.shapes import RECORD_ID_EXAMPLE
from ledger.times import EXAMPLE
from server.http.parameters import MAX_TEXT_CHARS

MAX_IDS: Final = 200_000

_FromSeq = Annotated[int, Meta(ge=0, le=2**40 - 1, examples=[0])]
_ToSeq = Annotated[int, Meta(ge=0, le=2**40 - 1, examples=[41])]
_Time = Annotated[
    str,
    Meta(
        max_length=64,
        title="TimeBound",
        description="A time (RFC 3339) at which entries begin or end.",
        examples=[EXAMPLE],
        extra_json_schema={"format": "date-time"},
    ),
]
_Ids = Annotated[
    list[Annotated[str, Meta(max_length=64)]],
    Meta(
        min_length=1,
        max_length=MAX_IDS,
        title="RecordIds",
        description="Ids of entries, 1 to 200,000 of them.",
        examples=[[RECORD_ID_EXAMPLE]],
    ),
]
_Fields = Annotated[
    list[Literal["payload", "actor", "subject"]],
    Meta(min_length=1, max_length=3, examples=[["payload", "actor"]]),
]


class BundleFilter(Struct, forbid_unknown_fields=True):
    """Entries with exactly these values, anchored from ``since`` (included) to ``until``."""

    event_type: (
        Annotated[str, Meta(max_length=MAX_TEXT_CHARS, examples=["invoice.approved"])] | None
    ) = None
    """The value of the events' ``event_type``; null: any."""
    actor: Annotated[str, Meta(max_length=MAX_TEXT_CHARS, examples=["ada@example.com"])] | None = (
        None
    )
    """The name of the actor, or its ref ("ref:…"); null: any."""
    subject: (
        Annotated[str, Meta(max_length=MAX_TEXT_CHARS, examples=["bob@example.com"])] | None
    ) = None
    """The name of the subject, or its ref ("ref:…"); null: any."""
    action: Annotated[str, Meta(max_length=MAX_TEXT_CHARS, examples=["approve"])] | None = None
    """The value of the events' ``action``; null: any."""
    outcome: Annotated[str, Meta(max_length=MAX_TEXT_CHARS, examples=["success"])] | None = None
    """The value of the events' ``outcome``; null: any."""
    since: _Time | None = None
    """Only entries written at this time or later; null: from the first."""
    until: _Time | None = None
    """Only entries written before this time; null: to the newest."""


class BundleDisclosureBody(Struct, forbid_unknown_fields=True):
    """What may be opened: these fields, of all entries of the bundle or of those named."""

    records: Literal["all"] | _Ids = "all"
    """The entries to open: "all" of the bundle, or ids of entries in it."""
    fields: _Fields = field(default_factory=lambda: ["payload"])
    """What to open of them; each at most once. Without it: the payload."""


class CreateBundle(Struct, forbid_unknown_fields=True):
    """Which entries: record ids, a range (both ends included), or a filter. And what of them."""

    record_ids: _Ids | None = None
    """The ids of the entries; null: a range or a filter names them."""
    from_seq: _FromSeq | None = None
    """The first seq of a range; null: 0, where ``to_seq`` is given."""
    to_seq: _ToSeq | None = None
    """The last seq of a range, included; null: the newest, where ``from_seq`` is given."""
    filter: BundleFilter | None = None
    """What the entries have in common; null: ids or a range name them."""
    include_merkle_proofs: bool = True
    """Whether the bundle has the inclusion proof of each entry."""
    include_pq_attestation: bool = True
    """Whether the bundle has the anchor: its ML-DSA-44 signature, timestamps and cosignatures."""
    include_payloads: bool = True
    """Whether the bundle has the payloads, as they are stored."""
    disclose: BundleDisclosureBody | None = None
    """What sealed entries to open for the reader; null: none. Needs a role that may open them."""
