"""Entries `quire.security_events`: the digests of security events, as a trail holds them.

A security event is a row first, as it must survive where no entry can be written; such an entry
seals some rows afterwards. ``docs/format.md`` describes both.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ledger.errors import FormatError
from ledger.shapes import HashHex, TimeText

SECURITY_EVENTS: Final = "quire.security_events"
IN_LEAF: Final = b'"event_type":"quire.security_events",'
"""A part of the leaf of such an entry, and of no other: quotes inside of a text are escaped."""
MAX_SEALED: Final = 500
"""Events that one entry lists."""
MAX_PAYLOAD_BYTES: Final = 1 << 20
"""More than the payload of 500 events can have, sealed or not."""


class SealedEvent(Struct, kw_only=True):
    """One security event; the digest covers its whole row."""

    id: Annotated[int, Meta(examples=[7])]
    """The number of the event."""
    at: TimeText
    """When it happened."""
    kind: Annotated[str, Meta(examples=["org_frozen"])]
    """What it reports."""
    severity: Annotated[str, Meta(examples=["critical"])]
    """How serious it is."""
    digest: HashHex
    """The digest of the event's row (docs/format.md)."""


class SecurityEventsSealed(Struct, kw_only=True):
    """Security events that happened since the entry of this kind before."""

    event_type: Literal["quire.security_events"] = "quire.security_events"
    actor: Literal["server"] = "server"
    action: Literal["seal"] = "seal"
    events: Annotated[list[SealedEvent], Meta(max_length=MAX_SEALED)]
    """The events, by their numbers; at most 500."""


class MalformedSealedEvents(FormatError):
    """A payload that is not one of an entry `quire.security_events`."""


_decode: Final = msgspec.json.Decoder(SecurityEventsSealed).decode


def events_of(payload: bytes) -> list[SealedEvent]:
    """Return the events that an entry seals. Raises MalformedSealedEvents."""
    try:
        return _decode(payload).events
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedSealedEvents(f"it does not list security events: {error}") from None
