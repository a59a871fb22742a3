"""Orgs as the API reads and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.entry import rfc3339
from ledger.shapes import TIME_EXAMPLE, HashHex, SlugText, TimeText, shape
from ledger.storage.orgs import OrgRecord
from server.access.directory import SLUG

SLUG_FORM = "1 to 63 lower-case letters, digits and hyphens, with a letter or digit at each end"
Quota = Annotated[int, Meta(ge=0, le=2**53 - 1, examples=[1_000_000])]
KeyAge = Annotated[int, Meta(ge=0, le=365, examples=[90])]
Name = Annotated[str, Meta(min_length=1, max_length=200, examples=["Acme Ltd"])]
Privacy = Annotated[
    Literal["sealed", "plain"],
    shape(
        "Privacy",
        "Whether payloads and names of persons are encrypted with a key of each person, which "
        "can be destroyed (sealed), or kept as they were sent (plain).",
        "sealed",
    ),
]


class CreateOrg(Struct, forbid_unknown_fields=True):
    """A new org. Its ``slug`` and its ``privacy`` never change."""

    slug: Annotated[
        str,
        Meta(pattern=f"^{SLUG.pattern}$", max_length=63, description=SLUG_FORM, examples=["acme"]),
    ]
    """The name of the org in paths: 1 to 63 lower-case letters, digits and hyphens, with a letter
    or digit at each end."""
    name: Name | None = None
    """The name that people see, 1 to 200 characters; null: the slug."""
    privacy: Privacy = "sealed"
    """Whether the org seals."""


class ChangeOrg(Struct, forbid_unknown_fields=True):
    """The changes of an org: a member that is null or absent changes nothing."""

    name: Name | None = None
    """The name that people see, 1 to 200 characters; null: unchanged."""
    log_public: bool | None = None
    """Whether anybody may read the org's log, every entry but the payloads, without a key; null:
    unchanged."""
    entries_a_day: Quota | None = None
    """How many entries may be appended to the org in a day (UTC); 0: any number; null: unchanged.
    Only with a platform key."""
    bytes_a_day: Quota | None = None
    """How many bytes of bodies, refused ones too, may be sent to be appended in a day (UTC); 0: any
    number; null: unchanged. Only with a platform key."""
    max_key_age_days: KeyAge | None = None
    """After how many days each API key of the org should be rotated, 1 to 365; 0: its age does not
    matter; null: unchanged."""


class ThawOrg(Struct, forbid_unknown_fields=True):
    """Why a frozen org may take entries again; becomes an entry of its trail."""

    reason: Annotated[
        str, Meta(min_length=1, max_length=1000, examples=["restored from the backup of 3 May"])
    ]
    """What was found and what was done, for later readers of the trail; 1 to 1,000 characters."""


class HeadBody(Struct):
    """The newest entry of a trail; seq -1 and nulls while it is empty."""

    seq: Annotated[int, Meta(examples=[41], extra_json_schema={"minimum": -1})]
    """The seq of the newest entry; -1 while the trail is empty."""
    entry_hash: HashHex | None
    """The hash of the newest entry; null while the trail is empty."""
    anchored_at: TimeText | None
    """When the newest entry was written; null while the trail is empty."""


class Frozen(Struct):
    """Since when and why an org takes no entries."""

    at: TimeText
    """When the org was frozen."""
    reason: Annotated[str, Meta(examples=["entry 41 is missing"])]
    """The fault that froze it."""


class OrgBody(Struct):
    """One org."""

    slug: SlugText
    """The name of the org in paths."""
    name: Annotated[str, Meta(examples=["Acme Ltd"])]
    """The name that people see."""
    privacy: Privacy
    """Whether the org seals."""
    created_at: TimeText
    """When the org was made."""
    frozen: Annotated[
        Frozen | None,
        Meta(examples=[None, {"at": TIME_EXAMPLE, "reason": "entry 41 is missing"}]),
    ]
    """Since when and why the org takes no entries; null: it takes them."""
    head: HeadBody
    """The newest entry of the org's trail."""
    log_public: Annotated[bool, Meta(examples=[False])]
    """Whether anybody may read the org's log without a key."""
    entries_a_day: Annotated[int, Meta(examples=[1_000_000])] | None
    """How many entries may be appended in a day (UTC); null: any number."""
    bytes_a_day: Annotated[int, Meta(examples=[1_000_000_000])] | None
    """How many bytes of bodies may be sent to be appended in a day (UTC); null: any number."""
    max_key_age_days: Annotated[int, Meta(examples=[90])] | None
    """After how many days each API key should be rotated; null: its age does not matter."""
    authentic: Annotated[bool, Meta(examples=[True])]
    """Whether this server wrote what the database says of the org; if not, requests to it are
    refused, and only the list shows it."""
    warnings: (
        list[Annotated[str, Meta(examples=["what was public can't be taken back"])]] | UnsetType
    ) = UNSET
    """What the change that was just made brings with it; only in the answer to such a change."""


class OrgList(Struct):
    """Orgs in the order of their slugs."""

    orgs: list[OrgBody]
    """The orgs of this page."""
    next_cursor: Annotated[str, Meta(examples=["acme"])] | None
    """The ``cursor`` of the next page; null: this is the last page."""


def head_body(seq: int, entry_hash: bytes, anchored_at: datetime) -> HeadBody:
    """Return a head row as the API shows it."""
    return (
        HeadBody(seq, entry_hash.hex(), rfc3339(anchored_at))
        if seq >= 0
        else HeadBody(-1, None, None)
    )


def org_body(org: OrgRecord, authentic: bool = True) -> OrgBody:
    """Return an org as the API shows it; ``authentic``: its row is right."""
    frozen = None
    if org.frozen_at is not None:
        frozen = Frozen(rfc3339(org.frozen_at), org.frozen_reason or "")
    return OrgBody(
        org.slug,
        org.name,
        cast("Privacy", org.privacy),
        rfc3339(org.created_at),
        frozen,
        head_body(org.seq, org.entry_hash, org.anchored_at),
        org.log_public,
        org.entries_a_day or None,
        org.bytes_a_day or None,
        org.max_key_age_days or None,
        authentic,
    )
