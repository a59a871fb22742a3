"""Events of 254 bytes, the same in every run."""

from __future__ import annotations

from typing import Final

import msgspec
from blake3 import blake3

from ledger.chain import Draft
from ledger.entry import PayloadDigest, search_tag
from ledger.event import parse_json

EVENT_BYTES: Final = 254
SUBJECTS: Final = 5_000
ACTORS: Final = 200
_ACTIONS: Final = ("approve", "reject", "create", "update")
_SUBJECT_STEP: Final = 2_741
"""Coprime to SUBJECTS: every subject occurs once before any occurs twice."""

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct):
    """An event as a caller might declare it; the no-op route decodes its body into this type."""

    event_type: str
    actor: str
    action: str
    outcome: str
    subject: str
    timestamp: str
    amount: str
    currency: str
    note: str


def subject(number: int) -> str:
    """Return the subject of event ``number``."""
    return f"customer-{number * _SUBJECT_STEP % SUBJECTS:05d}@example.com"


def actor(number: int) -> str:
    """Return the actor of event ``number``."""
    return f"clerk-{number % ACTORS:03d}"


def event(number: int) -> bytes:
    """Return event ``number`` as JSON of exactly 254 bytes."""
    action = _ACTIONS[number % len(_ACTIONS)]
    made = Event(
        f"invoice.{action}",
        actor(number),
        action,
        "success",
        subject(number),
        f"2026-01-31T12:{number // 60 % 60:02d}:{number % 60:02d}Z",
        f"{number % 100_000 / 100:.2f}",
        "EUR",
        f"no {number} ",
    )
    made.note += "." * (EVENT_BYTES - len(_encode(made)))
    body = _encode(made)
    assert len(body) == EVENT_BYTES
    return body


def batch(first: int, count: int) -> bytes:
    """Return ``count`` events as a JSON array."""
    return b"[" + b",".join(event(number) for number in range(first, first + count)) + b"]"


def draft(number: int) -> Draft:
    """Return the draft that the server makes of event ``number`` in a plain org."""
    (parsed,), _ = parse_json(event(number), max_events=1, max_payload=EVENT_BYTES)
    fields = parsed.fields
    return Draft(
        fields.action,
        fields.actor,
        fields.data_classification,
        fields.event_type,
        fields.legal_basis,
        fields.outcome,
        PayloadDigest(blake3(parsed.payload).hexdigest(), None, len(parsed.payload)),
        fields.subject,
        fields.timestamp,
        search_tag(fields.actor),
        search_tag(fields.subject),
        parsed.payload,
    )
