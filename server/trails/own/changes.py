"""The payloads of the entries that stand in the transaction of a change, for the documentation.

The entries are written elsewhere: who changes one of them changes it here, too.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from ledger.shapes import HashHex, Seq, SlugText, TimeText
from server.trails.own.payloads import Count, KeyText

Name = Annotated[str, Meta(examples=["Acme Ltd"])]
Reason = Annotated[str, Meta(examples=["restored from the backup of 3 May"])]
Month = Annotated[str, Meta(examples=["2026-01"])]


class Changed(Struct, kw_only=True, omit_defaults=True):
    """What the entries of all changes have."""

    event_type: Annotated[str, Meta(examples=["quire.org_changed"])]
    """The kind of entry."""
    actor: KeyText
    """The API key that asked for the change; "server" or "operator": no caller did."""
    action: Annotated[str, Meta(examples=["changed"])]
    """The act."""


class Registered(Changed, kw_only=True, omit_defaults=True):
    """A change of what the server decides by; in the trail `system`."""

    register: dict[str, Any]
    """The change for the server itself (docs/format.md, "The register")."""


class OrgCreated(Registered, kw_only=True, omit_defaults=True):
    """An org was created."""

    org: SlugText
    """The org."""
    name: Name | None = None
    """The name that people see."""
    privacy: Annotated[str, Meta(examples=["sealed"])] | None = None
    """Whether the org seals."""


class OrgChanged(Registered, kw_only=True, omit_defaults=True):
    """An org has these values now."""

    org: SlugText
    """The org."""
    name: Name
    """The name that people see."""
    log_public: bool
    """Whether anybody may read the org's log."""
    entries_a_day: Count
    """How many entries may be appended in a day; 0: any number."""
    bytes_a_day: Count
    """How many bytes may be sent in a day; 0: any number."""
    max_key_age_days: Count
    """After how many days each API key should be rotated; 0: its age does not matter."""


class LimitsChanged(Registered, kw_only=True):
    """An org has these rate limits now, in requests a minute; null: none."""

    org: SlugText
    """The org."""
    key_limits: dict[str, int | None]
    """The limits of each of its API keys."""
    org_limits: dict[str, int | None]
    """The limits of all its API keys together."""


class KeyChange(Registered, kw_only=True, omit_defaults=True):
    """An API key was created, changed, rotated or revoked, and is as these fields say now."""

    org: SlugText | None
    """The org of the key; null: it is the platform's."""
    key: Annotated[str, Meta(examples=["9f86d081884c7d65"])]
    """The id of the key."""
    name: Name
    """The name of the key."""
    role: Annotated[str, Meta(examples=["member"])]
    """Its role."""
    expires_at: TimeText | None
    """When it ends; null: never."""
    allowed_cidrs: Annotated[list[str], Meta(examples=[["192.0.2.0/24"]])]
    """The addresses from which it may be used; none: any."""
    rotated_to: dict[str, Any] | None = None
    """The same fields of the key that replaces it; only where it was rotated."""


class OrgRestored(Registered, kw_only=True, omit_defaults=True):
    """An org came back from its archive."""

    org: SlugText | None
    """The org; null: the platform's API keys, of which the archive has none."""


class OrgWasFrozen(Registered, kw_only=True, omit_defaults=True):
    """An org was frozen; ``register`` has the reason."""

    org: SlugText
    """The org."""


class OrgThawed(Changed, kw_only=True, omit_defaults=True):
    """A frozen org takes entries again."""

    reason: Reason
    """Why."""
    frozen_reason: Reason | None = None
    """Why it was frozen; only in the org's own trail."""
    org: SlugText | None = None
    """The org; only in the trail `system`."""
    register: dict[str, Any] | None = None
    """The change for the server itself; only in the trail `system`."""


class SubjectErased(Changed, kw_only=True, omit_defaults=True):
    """A person's key was destroyed."""

    ref: Annotated[str, Meta(examples=["ref:4fQ1"])] | None = None
    """The person's ref; only in the org's own trail."""
    org: SlugText | None = None
    """The org; only in the trail `system`."""
    register: dict[str, Any] | None = None
    """The change for the server itself; only in the trail `system`."""


class BundleDisclosed(Changed, kw_only=True):
    """A bundle opened fields of entries; written before it is sent."""

    fields: Annotated[list[str], Meta(examples=[["payload"]])]
    """The fields that are opened."""
    first_seq: Seq
    """The least seq of an entry that is opened."""
    last_seq: Seq
    """The greatest seq of an entry that is opened."""
    count: Count
    """How many entries are opened."""
    runs: list[tuple[int, int]]
    """Their seqs, as runs of consecutive ones, both ends included."""
    part: Count
    """Which part of the list this is."""
    parts: Count
    """How many parts it has."""
    checkpoint: Count
    """The size of the checkpoint that the bundle holds."""


class MonthLeaving(Changed, kw_only=True, omit_defaults=True):
    """A trail went on before the month of its newest entry is dropped."""

    month: Month
    """The month that is about to leave the database."""
    last_seq: Seq
    """The newest entry of the trail in that month."""


class LossAccepted(Changed, kw_only=True, omit_defaults=True):
    """Acknowledged entries were lost for good, and the trail goes on without them."""

    reason: Reason
    """Why the operator accepted the loss."""
    lost: Annotated[dict[str, int], Meta(examples=[{"first_seq": 4, "last_seq": 9}])]
    """The first and the last seq that are lost."""
    found: dict[str, Any]
    """The end of the trail as it was found."""
    acknowledged: dict[str, Any] | None
    """The newest entry that this machine acknowledged; null: it knows none."""
    signed: Any
    """The largest signed tree."""
    anchor_log: Any = None
    """The largest signed tree of the anchor log, where it is concerned."""


class Added(Struct, kw_only=True):
    """Raw bytes."""

    event_type: Annotated[str, Meta(examples=["quire.added"])]
    """The kind of entry."""
    data: Annotated[str, Meta(examples=["AAEC"])]
    """The bytes, in base64."""


class DroppedOrg(Struct, kw_only=True):
    """The entries of one org in a month that was dropped."""

    org: SlugText
    """The org."""
    org_id: Annotated[int, Meta(examples=[7])]
    """The number of the org in the database."""
    first_seq: Seq
    """The first entry."""
    last_seq: Seq
    """The last entry."""
    last_hash: HashHex
    """The hash of the last entry."""


class PartitionDropped(Changed, kw_only=True):
    """A month left the database; in the trail `system`."""

    outcome: Annotated[str, Meta(examples=["success"])]
    """The outcome."""
    month: Month
    """The month."""
    target: Annotated[str, Meta(examples=["file:///var/lib/quire/archive"])]
    """The archive that has the entries."""
    entries: Count
    """How many entries were dropped."""
    orgs: list[DroppedOrg]
    """The entries of each org."""
