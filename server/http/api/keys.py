"""API keys as the API reads and shows them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.entry import rfc3339
from ledger.shapes import TIME_EXAMPLE, SlugText, TimeText, shape
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyRow
from server.access.rights import Role

MAX_RANGES: Final = 100
"""Ranges of addresses of one key."""
MAX_OVERLAP_HOURS: Final = 720
SOON: Final = timedelta(days=14)
"""A key that ends so soon should be rotated."""

KeyName = Annotated[str, Meta(min_length=1, max_length=200, examples=["billing service"])]
OrgRole = Annotated[
    Literal["admin", "member", "auditor", "viewer"],
    shape(
        "OrgRole",
        "What a key of an org may do: a viewer reads and verifies; an auditor also lists keys and sees "
        "security events; a member reads, appends, opens payloads and lists keys; an admin also manages "
        "keys, erases and thaws.",
        "member",
    ),
]
ApiKeyId = Annotated[
    str,
    shape(
        "ApiKeyId",
        "The id of an API key, which is also the third part of the key: 16 lower-case hex digits.",
        "9f86d081884c7d65",
        pattern="^[0-9a-f]{16}$",
    ),
]
TokenText = Annotated[
    str,
    shape(
        "ApiKeyText",
        "An API key, to send with requests. The server keeps only a hash: it is never shown again.",
        "quire_live_9f86d081884c7d65_0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
]
RangeText = Annotated[str, Meta(min_length=2, max_length=49, examples=["192.0.2.0/24"])]
Ranges = Annotated[list[RangeText], Meta(max_length=MAX_RANGES, examples=[["192.0.2.0/24"]])]
ShownRanges = Annotated[list[str], Meta(examples=[["192.0.2.0/24"]])]
End = Annotated[TimeText | None, Meta(examples=[TIME_EXAMPLE, None])]
Days = Annotated[int, Meta(ge=1, le=365, examples=[90])]


class CreateKey(Struct, forbid_unknown_fields=True):
    """A new API key of an org, which expires after 90 days if neither member about that is given."""

    name: KeyName
    """What the key is for, shown to people; 1 to 200 characters."""
    role: OrgRole
    """What the key may do."""
    expires_in_days: Days | UnsetType | None = UNSET
    """After how many days the key expires, 1 to 365; null: never, only with a platform key, and not
    for an auditor's key."""
    expires_at: TimeText | UnsetType | None = UNSET
    """When the key expires (RFC 3339), in 1 to 365 days, instead of ``expires_in_days``."""
    allowed_cidrs: Ranges = []
    """The addresses and CIDR ranges from which the key may be used, at most 100; none: any address."""


class ChangeKey(Struct, forbid_unknown_fields=True):
    """The changes of an API key: a member that is null or absent changes nothing."""

    name: KeyName | None = None
    """What the key is for, shown to people; 1 to 200 characters."""
    allowed_cidrs: Ranges | None = None
    """The addresses and CIDR ranges from which the key may be used, at most 100; an empty list: any
    address."""


class RotateKey(Struct, forbid_unknown_fields=True):
    """How the old key of a rotation ends."""

    overlap_hours: Annotated[int, Meta(ge=0, le=MAX_OVERLAP_HOURS, examples=[24])] = 24
    """For how many hours the old key stays valid beside the new one, 0 to 720; never longer than it
    was valid before."""


class KeyBody(Struct):
    """One API key, without its secret."""

    id: ApiKeyId
    """The id of the key."""
    name: Annotated[str, Meta(examples=["billing service"])]
    """What the key is for."""
    role: OrgRole
    """What the key may do."""
    created_at: TimeText
    """When the key was made."""
    created_by: Annotated[str, Meta(examples=["key:0f1e2d3c4b5a6978"])]
    """Who made the key: "key:" and the id of an API key, or "server"."""
    expires_at: End
    """When the key expires; null: never."""
    allowed_cidrs: ShownRanges
    """The addresses from which the key may be used; none: any address."""
    last_used_at: Annotated[TimeText | None, Meta(examples=[TIME_EXAMPLE, None])]
    """When the key was last used, at most some minutes late; null: not yet."""
    rotated_to: Annotated[ApiKeyId | None, Meta(examples=[None, "0f1e2d3c4b5a6978"])]
    """The id of the key that replaces this one; null: none does."""
    revoked_at: Annotated[TimeText | None, Meta(examples=[None, TIME_EXAMPLE])]
    """When the key was revoked; null: it was not."""
    rotation_required: Annotated[bool, Meta(examples=[False])]
    """Whether the key is valid and should be rotated now: it expires within 14 days, or is older than
    the org's ``max_key_age_days``."""
    authentic: Annotated[bool, Meta(examples=[True])]
    """Whether this server wrote what the database says of the key; if not, the key is refused."""


class NewKeyBody(Struct):
    """A new API key, with its secret."""

    id: ApiKeyId
    """The id of the key."""
    name: Annotated[str, Meta(examples=["billing service"])]
    """What the key is for."""
    role: OrgRole
    """What the key may do."""
    created_at: TimeText
    """When the key was made."""
    expires_at: End
    """When the key expires; null: never."""
    allowed_cidrs: ShownRanges
    """The addresses from which the key may be used; none: any address."""
    key: TokenText
    """The key itself."""


class RotatedKeyBody(NewKeyBody):
    """The API key that replaces another one, with its secret."""

    replaces: ApiKeyId
    """The id of the old key."""
    old_expires_at: TimeText
    """When the old key expires."""


class QwedRotation(Struct):
    """The API key that replaces another one, as QWED answers."""

    status: Annotated[Literal["rotated"], Meta(examples=["rotated"])]
    """That the key was rotated."""
    old_key_id: ApiKeyId
    """The id of the old key, which is valid for 24 hours at most."""
    new_key_id: ApiKeyId
    """The id of the new key."""
    new_key_preview: Annotated[str, Meta(examples=["quire_live...cdef"])]
    """The first ten and the last four characters of the new key."""
    new_key_secret: TokenText
    """The new key itself."""


class KeyList(Struct):
    """API keys of an org, oldest first."""

    keys: list[KeyBody]
    """The keys of this page, revoked and expired ones too."""
    next_cursor: Annotated[str, Meta(examples=["9f86d081884c7d65"])] | None
    """The ``cursor`` of the next page; null: this is the last page."""


class WhoAmI(Struct):
    """The key that was sent."""

    key_id: ApiKeyId
    """The id of the key."""
    role: Annotated[Role, Meta(examples=["member"])]
    """What the key may do."""
    org: SlugText | None
    """The slug of the org that the key belongs to; null: it is the platform's."""
    expires_at: End
    """When the key expires; null: never."""


def should_rotate(key: ApiKeyRow, now: datetime, max_age_days: int = 0) -> bool:
    """Return whether a key is valid and should be rotated now.

    ``max_age_days`` is the greatest age of the keys of its org; 0: any.
    """
    if key.revoked_at is not None or key.rotated_to is not None:
        return False
    if key.expires_at is not None and not now < key.expires_at:
        return False
    is_old = max_age_days > 0 and now > key.created_at + timedelta(days=max_age_days)
    return is_old or (key.expires_at is not None and key.expires_at <= now + SOON)


def ranges_of(key: ApiKeyRow) -> list[str]:
    """Return the ranges of addresses of a key."""
    return [each for each in key.allowed_cidrs.split(",") if each]


def key_body(key: ApiKeyRecord, now: datetime, max_age_days: int) -> KeyBody:
    """Return a key as the API shows it at a time; ``max_age_days`` as of :func:`should_rotate`."""
    row = key.row
    return KeyBody(
        row.id,
        row.name,
        cast("OrgRole", row.role),
        rfc3339(row.created_at),
        row.created_by,
        _time(row.expires_at),
        ranges_of(row),
        _time(key.last_used_at),
        row.rotated_to,
        _time(row.revoked_at),
        should_rotate(row, now, max_age_days),
        key.is_authentic,
    )


def new_key_body(key: ApiKeyRow, token: str) -> NewKeyBody:
    """Return a key that was just made, with its secret."""
    return NewKeyBody(*_made(key), key=token)


def rotated_key_body(key: ApiKeyRow, old: ApiKeyRow, token: str) -> RotatedKeyBody:
    """Return the key that replaces an old one, with its secret."""
    assert old.expires_at is not None, "the old key of a rotation ends"
    return RotatedKeyBody(
        *_made(key), key=token, replaces=old.id, old_expires_at=rfc3339(old.expires_at)
    )


def _made(key: ApiKeyRow) -> tuple[str, str, OrgRole, str, str | None, list[str]]:
    role = cast("OrgRole", key.role)
    return key.id, key.name, role, rfc3339(key.created_at), _time(key.expires_at), ranges_of(key)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
