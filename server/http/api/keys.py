"""API keys as the API reads and shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, cast

from msgspec import Meta, Struct

from ledger.entry import rfc3339
from ledger.shapes import TIME_EXAMPLE, SlugText, TimeText, shape
from ledger.storage.api_keys import ApiKeyRecord, ApiKeyRow
from server.access.rights import Role

KeyName = Annotated[str, Meta(min_length=1, max_length=200, examples=["billing service"])]
OrgRole = Annotated[
    Literal["admin", "member", "viewer"],
    shape(
        "OrgRole",
        "What a key of an org may do: a viewer reads and verifies, a member also appends and "
        "opens payloads, an admin also manages keys, erases and thaws.",
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


class CreateKey(Struct, forbid_unknown_fields=True):
    """A new API key of an org."""

    name: KeyName
    """What the key is for, shown to people; 1 to 200 characters."""
    role: OrgRole
    """What the key may do."""


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
    revoked_at: Annotated[TimeText | None, Meta(examples=[None, TIME_EXAMPLE])]
    """When the key was revoked; null: it was not."""
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
    key: Annotated[
        str,
        Meta(
            examples=[
                "quire_live_9f86d081884c7d65_0123456789abcdef0123456789abcdef0123456789abcdef"
            ]
        ),
    ]
    """The key itself, to send with requests. The server keeps only a hash: it is never shown
    again."""


class KeyList(Struct):
    """API keys of an org, oldest first."""

    keys: list[KeyBody]
    """All keys that the org ever had."""


class WhoAmI(Struct):
    """The key that was sent."""

    key_id: ApiKeyId
    """The id of the key."""
    role: Annotated[Role, Meta(examples=["member"])]
    """What the key may do."""
    org: SlugText | None
    """The slug of the org that the key belongs to; null: it is the platform's."""


def key_body(key: ApiKeyRecord) -> KeyBody:
    """Return a key as the API shows it."""
    revoked = None if key.revoked_at is None else rfc3339(key.revoked_at)
    return KeyBody(
        key.id,
        key.name,
        cast("OrgRole", key.role),
        rfc3339(key.created_at),
        revoked,
        key.is_authentic,
    )


def new_key_body(key: ApiKeyRow, created_at: datetime, token: str) -> NewKeyBody:
    """Return a key that was just made, with its secret."""
    return NewKeyBody(key.id, key.name, cast("OrgRole", key.role), rfc3339(created_at), token)
