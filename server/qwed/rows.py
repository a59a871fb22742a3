"""Entries of QWED's audit log as its rows: what an entry says, whoever wrote it."""

from __future__ import annotations

import base64
import re
from typing import Any, Final, NamedTuple, cast

import msgspec

from ledger.entry import format_time, from_datetime
from ledger.errors import InvalidTime
from ledger.qwed.event import EVENT_TYPE as IMPORTED
from ledger.times import bound
from server.http.api.verifications import RowOutcome
from server.qwed.bodies import ImportedBody, LogBody, LogDetailBody
from server.trails.reading import EntryBody

VERDICT: Final = "verification.verdict"
BROKEN: Final = "BROKEN"
SOUND: Final = ("valid", "unsigned")
"""The outcomes of imported rows that are not broken; any other word counts as broken."""
_ENGINE: Final = "verify."
_REFERENCE: Final = re.compile(r"qwed:([0-9]{1,18}):([0-9]{1,18})")


class RowReference(NamedTuple):
    """The place of an imported row in QWED's table."""

    organization_id: int
    row_id: int

    @classmethod
    def of(cls, action: str | None) -> RowReference | None:
        """Return the reference in an entry's action, None for any other text."""
        match = _REFERENCE.fullmatch(action or "")
        return None if match is None else cls(int(match[1]), int(match[2]))


def log_body(entry: EntryBody, outcome: str | None) -> LogBody:
    """Return an entry as a row; ``outcome`` is that of an imported row, as last corrected."""
    payload = _payload(entry)
    make = _imported if entry.event_type == IMPORTED else _verdict
    return make(entry, payload, outcome)


def detail_body(entry: EntryBody, outcome: str | None) -> LogDetailBody:
    """Return an entry as a row with what proves it."""
    body = log_body(entry, outcome)
    payload = _payload(entry)
    return LogDetailBody(
        **msgspec.structs.asdict(body),
        previous_hash=entry.previous_hash,
        hmac_signature=entry.signature,
        imported=_stored(entry, payload, outcome) if payload and _is_imported(entry) else None,
    )


def created_at(event_type: str | None, timestamp: str | None, anchored_at: str) -> str:
    """Return when a verification was made: an imported row's own time, else that of its entry."""
    if event_type == IMPORTED and timestamp is not None:
        try:
            return format_time(from_datetime(bound(timestamp)))
        except InvalidTime:
            pass
    return anchored_at


def _is_imported(entry: EntryBody) -> bool:
    return entry.event_type == IMPORTED


def _imported(entry: EntryBody, payload: dict[str, Any], outcome: str | None) -> LogBody:
    row = _members(_members(payload.get("qwed")).get("row"))
    result = _written(row.get("result"))
    broken = outcome not in SOUND
    verdict = None
    if row and not broken:
        verdict = "VERIFIED" if row.get("is_verified") in (True, 1) else "NOT_VERIFIED"
    said = _status(result)
    return _body(
        entry,
        request_input=_text(row.get("query")),
        verification_result=result,
        engine_used=_text(row.get("domain")),
        verdict=verdict,
        status=BROKEN if broken else (said or verdict if row else None),
        admission=None if broken else _text(row.get("admission")),
        api_key_id=cast("int | str | None", _scalar(row.get("api_key_id"))),
        verifier_version=_text(row.get("verifier_version")),
    )


def _verdict(entry: EntryBody, payload: dict[str, Any], _: str | None) -> LogBody:
    action = entry.action or ""
    actor = entry.actor or ""
    verdict = entry.outcome.upper() if entry.outcome else None
    told = {name: payload[name] for name in ("verdict", "evidence", "result") if name in payload}
    return _body(
        entry,
        request_input=_written(payload.get("request")),
        verification_result=_written(told or None),
        engine_used=action.removeprefix(_ENGINE) if action.startswith(_ENGINE) else None,
        verdict=verdict,
        status=_text(payload.get("status")) or verdict,
        admission=_text(payload.get("admission")),
        api_key_id=actor.removeprefix("key:") if actor.startswith("key:") else None,
        verifier_version=_text(payload.get("verifier_version")),
    )


def _body(entry: EntryBody, **members: Any) -> LogBody:
    return LogBody(
        id=entry.seq,
        record_id=entry.record_id,
        latency_ms=0,
        created_at=created_at(entry.event_type, entry.timestamp, entry.anchored_at),
        entry_hash=entry.entry_hash,
        **members,
    )


def _stored(entry: EntryBody, payload: dict[str, Any], outcome: str | None) -> ImportedBody:
    qwed = _members(payload.get("qwed"))
    place = RowReference.of(entry.action)
    known = outcome if outcome in ("valid", "broken", "unsigned") else None
    return ImportedBody(
        None if place is None else place.organization_id,
        None if place is None else place.row_id,
        cast("RowOutcome | None", known),
        _text(qwed.get("entry_hash")),
        _text(_members(qwed.get("row")).get("previous_hash")),
        _text(qwed.get("hmac_signature")),
    )


def _members(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _scalar(value: object) -> object:
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _written(value: object) -> str | None:
    """Return a value as text: a string as it is, others as JSON."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _status(result: str | None) -> str | None:
    """Return the member ``status`` of a stored result, None without one."""
    try:
        return _text(_members(msgspec.json.decode(result or "null")).get("status"))
    except (msgspec.MsgspecError, RecursionError):
        return None


def _payload(entry: EntryBody) -> dict[str, Any]:
    """Return the event as it was sent; nothing if it is not shown, or no object."""
    try:
        if entry.payload_base64 is not None:
            return _members(msgspec.msgpack.decode(base64.b64decode(entry.payload_base64)))
        return _members(msgspec.json.decode(entry.payload))
    except (msgspec.MsgspecError, RecursionError):
        return {}
