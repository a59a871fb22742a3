"""Signed logs as the API shows them: checkpoints, anchors, timestamps, the keys that sign."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ledger.entry import rfc3339
from ledger.shapes import HashHex, NoteText, TimeText, TreeSize, shape
from ledger.storage.trees import StoredCheckpoint, StoredToken

LeafIndex = Annotated[
    int, shape("LeafIndex", "The place of a leaf in the anchor log, from 0.", 5, minimum=0)
]
LogKeyId = Annotated[
    str,
    shape(
        "LogKeyId",
        'The id of a key pair of the log: "lk-" and the first 16 hex digits of the SHA-256 of both '
        "public keys.",
        "lk-2c26b46b68ffc68f",
        pattern="^lk-[0-9a-f]{16}$",
    ),
]
PageCursor = Annotated[int, Meta(examples=[42], extra_json_schema={"minimum": 0})]


class SignedHeadBody(Struct):
    """A signed tree head, of an org's log (a checkpoint) or of the anchor log (an anchor)."""

    size: TreeSize
    """How many leaves the tree has."""
    root: HashHex
    """The root hash of the tree."""
    note: NoteText
    """The head as a signed note."""
    signed_at: TimeText
    """When the head was signed."""


class CheckpointBody(SignedHeadBody):
    """A signed tree head of an org's log, and whether it is anchored."""

    anchor_index: LeafIndex | None
    """The first leaf of the anchor log that commits to the note; null until there is one, and
    always for size 0."""


class CheckpointPageBody(Struct):
    """Checkpoints, newest first; follow ``next_cursor`` until it is null."""

    checkpoints: list[CheckpointBody]
    """The checkpoints of this page."""
    next_cursor: PageCursor | None
    """The ``cursor`` of the next page; null: this is the last page."""


class AnchorPage(Struct):
    """Anchors, newest first; follow ``next_cursor`` until it is null."""

    anchors: list[SignedHeadBody]
    """The anchors of this page."""
    next_cursor: PageCursor | None
    """The ``cursor`` of the next page; null: this is the last page."""


class TokenBody(Struct):
    """An RFC 3161 timestamp over an anchor's note as the log signed it."""

    token: Annotated[bytes, Meta(examples=["MIIC5zADAgEAMIIC3gYJKoZIhvcNAQcC"])]
    """The token (RFC 3161, TimeStampToken) as DER, in base64."""
    gen_time: TimeText
    """The time that the timestamp authority attests."""
    added_at: TimeText
    """When this server received the token."""


class AnchorDetail(Struct):
    """An anchor with what others added: ``note`` carries cosignatures, ``signed`` does not."""

    size: TreeSize
    """How many leaves the anchor log has."""
    root: HashHex
    """The root hash of the anchor log."""
    note: NoteText
    """The anchor as a signed note, with the cosignatures of witnesses."""
    signed: NoteText
    """The note as the log signed it, without the cosignatures of witnesses."""
    signed_at: TimeText
    """When the anchor was signed."""
    timestamps: list[TokenBody]
    """The timestamps over ``signed``; empty where there are none."""


class LogKeyStatement(Struct):
    """A key pair of the log, as its signatures cover it."""

    created_at: TimeText
    """When the key pair was made."""
    ed25519: Annotated[bytes, Meta(examples=["pMHwwKUs8rpuj08vHw1Kj9mjprjgtcfZE1eSRorOC98="])]
    """The public Ed25519 key: 32 bytes in base64."""
    id: LogKeyId
    """The id of the key pair."""
    ml_dsa_44: Annotated[bytes, Meta(examples=["cHVibGljIGtleQ=="])]
    """The public ML-DSA-44 key: 1,312 bytes in base64."""
    origin: Annotated[str, Meta(examples=["audit.example.com"])]
    """The origin of all logs of this server."""
    position: Annotated[int, Meta(examples=[0], extra_json_schema={"minimum": 0})]
    """The place of the key pair in the history, from 0."""
    previous: HashHex | None
    """The SHA-256 of the statement before it; null for the first."""
    v: Annotated[int, Meta(examples=[1])]
    """The version of the form of statements."""


class LogKeySignatures(Struct):
    """The signatures of one key pair over a statement."""

    key: LogKeyId
    """The id of the key pair that signed."""
    ed25519: Annotated[bytes, Meta(examples=["1Zw0kRsxc2lnbmF0dXJl"])]
    """The Ed25519 signature: 64 bytes in base64."""
    ml_dsa_44: Annotated[bytes, Meta(examples=["1Zw0kRsxc2lnbmF0dXJl"])]
    """The ML-DSA-44 signature: 2,420 bytes in base64."""


class KeyStatement(Struct):
    """What one key of the log is, signed by the key before it and by itself."""

    statement: LogKeyStatement
    """What the signatures cover."""
    signatures: list[LogKeySignatures]
    """The signatures of the key pair before it, if there is one, then its own."""


class KeyHistory(Struct):
    """The keys that sign checkpoints and anchors, oldest first."""

    origin: Annotated[str, Meta(examples=["audit.example.com"])]
    """The origin of all logs of this server: a URL without scheme."""
    keys: list[KeyStatement]
    """The key pairs, oldest first; the last signs now."""


def signed_head(found: StoredCheckpoint, note: bytes) -> SignedHeadBody:
    """Return a checkpoint as the API shows it, with the given note."""
    return SignedHeadBody(found.size, found.root.hex(), text(note), rfc3339(found.signed_at))


def checkpoint_body(found: StoredCheckpoint, anchor_index: int | None) -> CheckpointBody:
    """Return a checkpoint as the API shows it."""
    return CheckpointBody(
        found.size, found.root.hex(), text(found.note), rfc3339(found.signed_at), anchor_index
    )


def token_bodies(tokens: list[StoredToken]) -> list[TokenBody]:
    """Return timestamp tokens as the API shows them."""
    return [
        TokenBody(found.token, rfc3339(found.gen_time), rfc3339(found.added_at)) for found in tokens
    ]


def text(note: bytes) -> str:
    """Return a note as text; bytes damaged in storage are shown as replacement characters."""
    return note.decode("utf-8", "replace")
