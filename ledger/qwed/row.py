"""A row of QWED's audit table, and the text that its hash covers."""

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
Form: TypeAlias = Literal["admission", "caller", "current", "legacy"]

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
"""The columns of the oldest tables. Later QWED releases added LATER_COLUMNS."""
CALLER_COLUMNS: Final = ("api_key_id", "verifier_version")
LATER_COLUMNS: Final = ("raw_llm_output", *CALLER_COLUMNS, "admission")
"""A column that a table lacks counts as null."""

_LEGACY_COLUMNS: Final = (
    "organization_id",
    "user_id",
    "query",
    "result",
    "is_verified",
    "domain",
    "timestamp",
    "previous_hash",
)
HASHED_COLUMNS: Final[Mapping[Form, tuple[str, ...]]] = {
    "admission": (*_LEGACY_COLUMNS, *LATER_COLUMNS),
    "caller": (*_LEGACY_COLUMNS, "raw_llm_output", *CALLER_COLUMNS),
    "current": (*_LEGACY_COLUMNS, "raw_llm_output"),
    "legacy": _LEGACY_COLUMNS,
}
"""The fields that each form hashes: 12, 11, 9 and 8."""

_STORED_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:(Z)|([+-]\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_UTC: Final = "+00:00"
_SQLITE_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", re.ASCII)
_POSTGRES_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{0,5}[1-9])?(?:\+00)?", re.ASCII)


class MalformedQwedRow(FormatError):
    """A row whose hashed text can't be built: a column is missing, or a value is not JSON."""


@dataclass(frozen=True, slots=True)
class QwedRow:
    """One row as QWED hashes it; ``columns`` keeps every stored column unchanged.

    ``timestamp`` is ISO 8601, ``is_verified`` a bool, ``result`` the stored JSON
    text. Any field but ``id`` can have a value of another type, if the table holds
    one; such a row fails the hash.
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
    api_key_id: Column = None
    verifier_version: Column = None
    admission: Column = None
    columns: Mapping[str, Column] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> QwedRow:
        """Make a row from its stored columns; time and flag are converted to their hashed form.

        Raises MalformedQwedRow if a column is missing or ``id`` is not an integer.
        """
        missing = [name for name in REQUIRED_COLUMNS if name not in columns]
        if missing:
            raise MalformedQwedRow(f"a QWED audit row lacks the columns {', '.join(missing)}")
        hashed: dict[str, Any] = {name: columns[name] for name in REQUIRED_COLUMNS}
        if type(hashed["id"]) is not int:
            raise MalformedQwedRow("a QWED audit row has an id that is not an integer")
        if isinstance(hashed["timestamp"], str):
            hashed["timestamp"] = iso_time(hashed["timestamp"])
        # SQLite has no booleans. Other values than 0 and 1 remain, and fail the hash.
        if hashed["is_verified"] in (0, 1):
            hashed["is_verified"] = bool(hashed["is_verified"])
        hashed |= {name: columns.get(name) for name in LATER_COLUMNS}
        return cls(**hashed, columns=columns)

    @property
    def written_by_qwed_8(self) -> bool:
        """Whether a column is set that only QWED 8 writes; QWED 8 chains all its rows."""
        return (self.api_key_id, self.verifier_version, self.admission) != (None, None, None)

    @property
    def outside_chain(self) -> bool:
        """Whether the row has neither hash nor signature nor link, as QWED 7's API wrote it."""
        return (
            self.entry_hash in (None, "")
            and self.hmac_signature in (None, "")
            and self.previous_hash is None
        )


def iso_time(stored: str) -> str:
    """Convert a stored time (``2026-05-08 00:00:00.000000``) to the hashed ISO 8601 form.

    Other text is returned unchanged; its row then fails the hash.
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


def time_as_stored(columns: Mapping[str, Column]) -> bool:
    """Return whether a row's stored time has its database's own notation, in UTC.

    Other notations of the same instant give the same hash. Only PostgreSQL has
    booleans, so the type of the flag identifies the database.
    """
    stored = columns.get("timestamp")
    notation = _POSTGRES_TIME if isinstance(columns.get("is_verified"), bool) else _SQLITE_TIME
    return not isinstance(stored, str) or notation.fullmatch(stored) is not None


def canonical_json(fields: Mapping[str, object]) -> str:
    """Return the text that QWED hashes. Raises MalformedQwedRow for a value that is not JSON."""
    try:
        return json.dumps(fields, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedQwedRow(f"Audit entry holds a value that is not JSON: {error}") from None


def hash_fields(fields: Mapping[str, object]) -> str:
    """Return the ``entry_hash`` of the fields of any form: 64 hex digits."""
    return hashlib.sha256(canonical_json(fields).encode("ascii")).hexdigest()


def sign_hash(secret: bytes, entry_hash: str) -> str:
    """Return the ``hmac_signature`` over an ``entry_hash``: 64 hex digits (RFC 2104)."""
    return hmac.digest(secret, entry_hash.encode("utf-8", "surrogatepass"), "sha256").hex()


def decode_result(stored: object) -> object:
    """Return the JSON value of a stored result.

    Raises MalformedQwedRow, also for an object with a repeated key: the hash would
    cover only one of its two values.
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
    """Yield the hashes that are valid for the row, the likeliest first.

    A column without a time zone loses the offset that was hashed, and a column with
    a time zone adds an offset, so both notations of the instant are tried.
    Raises MalformedQwedRow for a value that is not JSON.
    """
    forms = possible_forms(row)
    notations = _notations(row.timestamp)
    if row.written_by_qwed_8:
        notations = notations[::-1]  # QWED 8 hashes times with an offset
    for timestamp in notations:
        hashed = {name: getattr(row, name) for name in HASHED_COLUMNS["admission"]}
        hashed |= {"result": result, "timestamp": timestamp}
        for form in forms:
            yield form, hash_fields({name: hashed[name] for name in HASHED_COLUMNS[form]})


def possible_forms(row: QwedRow) -> tuple[Form, ...]:
    """Return the forms whose hash is acceptable for the row.

    A form that omits a column is possible only if that column is null. Otherwise
    someone could add a caller or an admission, which no hash covers, to an older row.
    ``raw_llm_output`` is the exception: QWED stored it before it hashed it.
    """
    if not row.written_by_qwed_8:
        return ("current", "admission", "caller", "legacy")
    return ("admission", "caller") if row.admission is None else ("admission",)


def _notations(timestamp: Column) -> tuple[Column, ...]:
    if not isinstance(timestamp, str) or _STORED_TIME.fullmatch(timestamp) is None:
        return (timestamp,)
    if timestamp.endswith(_UTC):
        return timestamp, timestamp.removesuffix(_UTC)
    return timestamp, timestamp + _UTC


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    distinct = dict(pairs)
    if len(distinct) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return distinct
