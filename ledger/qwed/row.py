"""A row of QWED's audit table, and the text that its hash is taken over."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from ledger.errors import FormatError

Column: TypeAlias = bool | int | float | str | bytes | None
Form: TypeAlias = Literal["current", "legacy"]

REQUIRED_COLUMNS: Final = (
    "id",
    "organization_id",
    "user_id",
    "query",
    "result",
    "is_verified",
    "domain",
    "timestamp",
    "entry_hash",
    "hmac_signature",
    "previous_hash",
)
"""``raw_llm_output`` is the twelfth; the oldest tables lack it."""

_STORED_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_UTC: Final = "+00:00"


class MalformedQwedRow(FormatError):
    """A row whose hashed text can't be built: a column missing, or a value that is not JSON."""


@dataclass(frozen=True, slots=True)
class QwedRow:
    """One row, as QWED hashes it; ``columns`` keeps every stored column as it was read.

    ``timestamp`` is ISO 8601, ``is_verified`` a bool, ``result`` the stored JSON
    text. A value of another type can stand in any field but ``id``: it is what
    someone stored there, and it fails the hash.
    """

    id: int
    organization_id: Column
    user_id: Column
    query: Column
    result: Column
    is_verified: Column
    domain: Column
    timestamp: Column
    entry_hash: Column
    hmac_signature: Column
    previous_hash: Column
    raw_llm_output: Column = None
    columns: Mapping[str, Column] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> QwedRow:
        """A row from its stored columns, with the stored time and flag brought to hashed form.

        Raises MalformedQwedRow where a column is missing or ``id`` is no integer.
        """
        missing = [name for name in REQUIRED_COLUMNS if name not in columns]
        if missing:
            raise MalformedQwedRow(f"a QWED audit row lacks the columns {', '.join(missing)}")
        hashed = {name: columns[name] for name in REQUIRED_COLUMNS}
        if type(hashed["id"]) is not int:
            raise MalformedQwedRow(f"a QWED audit row has {hashed['id']!r} for an id, no integer")
        if isinstance(hashed["timestamp"], str):
            hashed["timestamp"] = iso_time(hashed["timestamp"])
        # SQLite has no booleans. Anything but 0 and 1 stays, and fails the hash.
        if hashed["is_verified"] in (0, 1):
            hashed["is_verified"] = bool(hashed["is_verified"])
        return cls(**hashed, raw_llm_output=columns.get("raw_llm_output"), columns=columns)


def iso_time(stored: str) -> str:
    """A stored time (``2026-05-08 00:00:00.000000``) in the ISO 8601 form that is hashed.

    Text that is no such time comes back unchanged; its row then fails the hash.
    """
    match = _STORED_TIME.fullmatch(stored)
    if match is None:
        return stored
    day, time, fraction, zulu, hours, minutes = match.groups()
    offset = _UTC if zulu else f"{hours}:{minutes or '00'}" if hours else ""
    try:
        return datetime.fromisoformat(f"{day}T{time}.{fraction or '':0<6}{offset}").isoformat()
    except ValueError:
        return stored


def canonical_json(fields: Mapping[str, object]) -> str:
    """The text that QWED hashes. Raises MalformedQwedRow for a value that is not JSON."""
    try:
        return json.dumps(fields, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedQwedRow(f"Audit entry holds a value that is not JSON: {error}") from None


def hash_fields(fields: Mapping[str, object]) -> str:
    """The ``entry_hash`` of fields in either form: 64 hex digits."""
    return hashlib.sha256(canonical_json(fields).encode("ascii")).hexdigest()


def sign_hash(secret: bytes, entry_hash: str) -> str:
    """The ``hmac_signature`` over an ``entry_hash``: 64 hex digits (RFC 2104)."""
    return hmac.digest(secret, entry_hash.encode("utf-8", "surrogatepass"), "sha256").hex()


def decode_result(stored: object) -> object:
    """The JSON value of a stored result.

    A key that stands twice in one object is refused: the hash would cover one of
    the two values only. Raises MalformedQwedRow.
    """
    reason = "it is not text"
    if isinstance(stored, str):
        try:
            return json.loads(stored, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            reason = str(error)
    raise MalformedQwedRow(
        f"Audit entry result payload is malformed; cannot verify integrity: {reason}"
    )


def possible_hashes(row: QwedRow, result: object) -> Iterator[tuple[Form, str]]:
    """The hashes the row may rightly carry, the likeliest first.

    A column without a time zone loses the offset that was hashed, and one with it
    adds an offset, so the same instant is tried in both notations.
    Raises MalformedQwedRow for a value that is not JSON.
    """
    for timestamp in _notations(row.timestamp):
        legacy = {
            "organization_id": row.organization_id,
            "user_id": row.user_id,
            "query": row.query,
            "result": result,
            "is_verified": row.is_verified,
            "domain": row.domain,
            "timestamp": timestamp,
            "previous_hash": row.previous_hash,
        }
        yield "current", hash_fields(legacy | {"raw_llm_output": row.raw_llm_output})
        yield "legacy", hash_fields(legacy)


def _notations(timestamp: Column) -> tuple[Column, ...]:
    if not isinstance(timestamp, str) or _STORED_TIME.fullmatch(timestamp) is None:
        return (timestamp,)
    if timestamp.endswith(_UTC):
        return timestamp, timestamp.removesuffix(_UTC)
    return timestamp, timestamp + _UTC


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
