"""Turns a request body into drafts, appends them through the sequencer, and answers.

Decoding, limits and sealing happen here, before any lock is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from blake3 import blake3

from ledger import sealing
from ledger.core.org import OrgFacts
from ledger.core.sealing.sealer import Drafted, Sealer
from ledger.core.sequencer import Appended, AppendRequest, KeyDigest, Sequencer, StaleSeal
from ledger.errors import DatabaseUnavailable, InvalidEvent, PayloadTooLarge, ProblemType
from ledger.event import AT_ONCE, Event, EventFields, in_haste
from ledger.intake import BodyForm, IntakeLimits, ParserPool, body_pieces, parse_body
from ledger.pieces import piece
from server.access.permits import NOT_CHECKED, AppendPermits
from server.trails.own.entry_kinds import ADDED

MAX_SEALINGS: Final = 5
MAX_KEY_CHARS: Final = 255
_DIGEST_BYTES: Final = 16
_REQUEST: Final = b"request\x00"
_EVENT: Final = b"event\x00"

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
MSGPACK: Final = "application/msgpack"
BODY_TYPES: Final = (JSON, NDJSON, MSGPACK)
_FORMS: Final = {
    "": BodyForm.JSON,
    JSON: BodyForm.JSON,
    NDJSON: BodyForm.NDJSON,
    MSGPACK: BodyForm.MSGPACK,
}
UNIQUE_AT_ONCE: Final = 250
"""Unique keys of which digests are made without a pause: about a millisecond."""
HASTE_BYTES: Final = 4_096
"""Bytes of a request that are checked at Python's speed on the event loop: about a millisecond."""


class UnsupportedBody(InvalidEvent):
    """The content type of the body is not supported."""

    problem_type = ProblemType(
        "unsupported-media-type",
        415,
        "Unsupported content type",
        'send application/json, application/x-ndjson, application/msgpack, not "text/csv"',
    )


async def append_sealed(
    append: Callable[[AppendRequest], Awaitable[Appended]],
    sealer: Sealer,
    org: OrgFacts,
    events: Sequence[Event],
    request: Callable[[Drafted], AppendRequest],
) -> Appended:
    """Seal the events and append the request made of them.

    A subject that is erased between sealing and commit makes the sequencer raise StaleSeal: the
    events are then sealed again. Raises DatabaseUnavailable after MAX_SEALINGS attempts.
    """
    for _ in range(MAX_SEALINGS):
        sealed = await sealer.draft(org, events)
        try:
            return await append(request(sealed))
        except StaleSeal:
            sealer.forget(org)
    raise DatabaseUnavailable("subjects of this org were erased while it sealed events; retry")


class Appender:
    """Appends request bodies to trails."""

    def __init__(
        self,
        sequencer: Sequencer,
        sealer: Sealer,
        master_key: bytes,
        intake: IntakeLimits,
        require_signed: Callable[[OrgFacts], None] = lambda _: None,
    ) -> None:
        self._sequencer = sequencer
        self._sealer = sealer
        self._digest_key = sealing.derive(master_key, "idempotency")
        self._intake = intake
        self.parsers = ParserPool()
        self._require_signed = require_signed

    def parse(self, body: bytes, content_type: str) -> tuple[list[Event], bool]:
        """Return the events of a body, and whether it was a single object."""
        return parse_body(self.form(content_type), body, self._intake)

    async def parse_in_haste(
        self, org: OrgFacts, body: bytes, content_type: str
    ) -> tuple[list[Event], bool]:
        """Do the same in pieces, or raise NeedsTime for a body that would hold up other requests."""
        events: list[Event] = []
        with in_haste(HASTE_BYTES):
            await piece(org.id)
            pieces, single = body_pieces(self.form(content_type), body, self._intake)
            for some in pieces:
                events += some
                if len(some) == AT_ONCE:  # there may be more
                    await piece(org.id)
        return events, single

    async def parse_aside(
        self, org: OrgFacts, body: bytes, content_type: str
    ) -> tuple[list[Event], bool]:
        """Do the same in another process. Raises QueueFull, ParserLost."""
        return await self.parsers.parse(org.id, self.form(content_type), body, self._intake)

    def form(self, content_type: str) -> BodyForm:
        """Return the form of a body of this media type. Raises UnsupportedBody."""
        form = _FORMS.get(content_type)
        if form is None:
            shown = "".join(char if char.isprintable() else "\ufffd" for char in content_type[:80])
            raise UnsupportedBody(f'send {", ".join(BODY_TYPES)}, not "{shown}"')
        return form

    def added(self, data: bytes) -> Event:
        """Return the event that records any bytes, as base64. Raises PayloadTooLarge."""
        payload = msgspec.json.encode({"event_type": ADDED, "data": data})
        if len(payload) > self._intake.max_payload:
            raise PayloadTooLarge(
                f"as an event this has {len(payload)} bytes; at most {self._intake.max_payload}"
            )
        return Event(EventFields(event_type=ADDED), payload)

    async def append(
        self,
        org: OrgFacts,
        events: list[Event],
        *,
        idempotency: KeyDigest | None = None,
        permits: AppendPermits = NOT_CHECKED,
    ) -> Appended:
        """Append the events; return once they are durable.

        Raises SigningLate if earlier entries of the org are unsigned for too long, and StaleKey if
        the caller's key is no longer the one of the ``permits``.
        """
        self._require_signed(org)
        unique = await self._unique(org, events)

        def request(sealed: Drafted) -> AppendRequest:
            made = AppendRequest(
                org.id,
                org.slug,
                sealed.drafts,
                erasures=sealed.erasures,
                idempotency=idempotency,
                unique=unique,
                effect=permits.effect,
            )
            made.permit = permits.permit
            return made

        return await append_sealed(self._sequencer.append, self._sealer, org, events, request)

    def request_key(
        self, org: OrgFacts, key: str | None, body: bytes, content_type: str
    ) -> KeyDigest | None:
        """Return keyed digests of an Idempotency-Key header and of its request's body."""
        if key is None:
            return None
        if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
            raise InvalidEvent(
                f"the Idempotency-Key must be 1 to {MAX_KEY_CHARS} printable ASCII characters"
            )
        return KeyDigest(
            self._digest(org, _REQUEST + key.encode()),
            self._digest(org, content_type.encode() + b"\x00", body),
        )

    async def _unique(self, org: OrgFacts, events: list[Event]) -> dict[int, KeyDigest]:
        found: dict[int, KeyDigest] = {}
        for index, event in enumerate(events):
            if event.fields.unique_key is None:
                continue
            if found and len(found) % UNIQUE_AT_ONCE == 0:
                await piece(org.id)
            found[index] = KeyDigest(
                self._digest(org, _EVENT + event.fields.unique_key.encode()),
                self._digest(org, event.payload),
            )
        return found

    def _digest(self, org: OrgFacts, *parts: bytes) -> bytes:
        # Keyed, so that a stored digest reveals nothing about an erased payload; with the org, so
        # that it does not show that two orgs sent the same.
        digest = blake3(org.slug.encode() + b"\x00", key=self._digest_key)
        for part in parts:  # not joined: a body may have many megabytes
            digest.update(part)
        return digest.digest(length=_DIGEST_BYTES)
