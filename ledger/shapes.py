"""The shapes of values that recur in JSON: times, hashes, ids, places in a trail.

A shape is a type alias with a title. The description of the API shows it once, under that title,
and refers to it from every field of the type. A shape restricts nothing that is decoded: formats
and patterns are for readers and for generators of clients.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

TIME_EXAMPLE: Final = "2026-01-31T12:00:00.000000Z"
RECORD_ID_EXAMPLE: Final = "rec_000000010649add44930000000000029"
NOTE_EXAMPLE: Final = (
    "audit.example.com/orgs/acme\n42\npMHwwKUs8rpuj08vHw1Kj9mjprjgtcfZE1eSRorOC98=\n\n"
    "— audit.example.com/orgs/acme 1Zw0kRsxc2lnbmF0dXJlIG9mIHRoZSBsb2c=\n"
)


def shape(title: str, description: str, example: object, **keywords: Any) -> Meta:
    """Return the title, description and example of a shape, with keywords of its JSON schema."""
    return Meta(
        title=title, description=description, examples=[example], extra_json_schema=keywords
    )


TimeText = Annotated[
    str,
    shape(
        "Time",
        "A time in UTC with microseconds (RFC 3339).",
        TIME_EXAMPLE,
        format="date-time",
    ),
]
HashHex = Annotated[
    str,
    shape(
        "Hash",
        "A hash of 32 bytes: 64 lower-case hex digits.",
        "a4c1f0c0a52cf2ba6e8f4f2f1f0d4a8fd9a3a6b8e0b5c7d9135792468ace0bdf",
        pattern="^[0-9a-f]{64}$",
    ),
]
RecordIdText = Annotated[
    str,
    shape(
        "RecordId",
        'The id of an entry: "rec_" and 32 lower-case hex digits.',
        RECORD_ID_EXAMPLE,
        pattern="^rec_[0-9a-f]{32}$",
    ),
]
Seq = Annotated[
    int,
    shape(
        "Seq",
        "The number of an entry in its trail: 0 for the first, one more for each that follows.",
        41,
        minimum=0,
    ),
]
TreeSize = Annotated[
    int,
    shape("TreeSize", "The size of a Merkle tree: the number of its leaves.", 42, minimum=0),
]
NoteText = Annotated[
    str,
    shape(
        "Note",
        "A signed tree head: a C2SP signed note with the origin of the log, the size of its tree "
        "and the root in base64, then the signatures.",
        NOTE_EXAMPLE,
    ),
]
SlugText = Annotated[
    str,
    shape(
        "Slug",
        "The name of an org in paths: 1 to 63 lower-case letters, digits and hyphens, with a "
        "letter or digit at each end.",
        "acme",
        pattern="^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$",
    ),
]
