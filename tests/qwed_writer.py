"""Writes QWED audit trails as QWED's logger does, for tests to read.

QWED's logger hashes and signs, and SQLModel creates the table; this module
reimplements both from docs/qwed.md.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from ledger.qwed import QwedRow, hash_fields, sign_hash

SECRET = b"audit-fixture-value"
START = datetime(2026, 5, 8)  # noqa: DTZ001 - QWED's times have no zone

SQLITE_TABLE = """
CREATE TABLE verificationlog (
    id INTEGER NOT NULL,
    organization_id INTEGER NOT NULL,
    user_id INTEGER,
    query VARCHAR NOT NULL,
    result VARCHAR NOT NULL,
    is_verified BOOLEAN NOT NULL,
    domain VARCHAR NOT NULL,
    timestamp DATETIME NOT NULL,
    entry_hash VARCHAR,
    hmac_signature VARCHAR,
    previous_hash VARCHAR,
    raw_llm_output VARCHAR,
    api_key_id INTEGER,
    verifier_version VARCHAR,
    admission VARCHAR,
    PRIMARY KEY (id)
);
CREATE INDEX ix_verificationlog_organization_id ON verificationlog (organization_id);
"""
POSTGRES_TABLE = (
    SQLITE_TABLE.replace("id INTEGER NOT NULL,\n    org", "id SERIAL NOT NULL,\n    org")
    .replace("DATETIME", "TIMESTAMP WITHOUT TIME ZONE")
)  # fmt: skip


def entry(
    previous_hash: str | None = None,
    *,
    row_id: int = 1,
    form: Literal["current", "legacy"] = "current",
    secret: bytes = SECRET,
    result: object = None,
    **fields: Any,
) -> QwedRow:
    """The row that the logger would write after the row with this hash."""
    hashed: dict[str, Any] = {
        "organization_id": 1,
        "user_id": 7,
        "query": "what is 2 + 2?",
        "result": {"value": 4} if result is None else result,
        "is_verified": True,
        "domain": "math",
        "timestamp": (START + timedelta(seconds=row_id)).isoformat(),
        "previous_hash": previous_hash,
        "raw_llm_output": "It is 4.",
    } | fields
    covered = {name: hashed[name] for name in hashed if form == "current" or name[:3] != "raw"}
    entry_hash = hash_fields(covered)
    stored = hashed | {"result": json.dumps(hashed["result"])}
    return QwedRow(
        row_id, **stored, entry_hash=entry_hash, hmac_signature=sign_hash(secret, entry_hash)
    )


def trail(count: int, *, first_id: int = 1, **fields: Any) -> list[QwedRow]:
    """An organization's first ``count`` rows."""
    rows: list[QwedRow] = []
    for row_id in range(first_id, first_id + count):
        previous_hash = str(rows[-1].entry_hash) if rows else None
        rows.append(entry(previous_hash, row_id=row_id, **fields))
    return rows


COLUMNS = tuple(name for name in QwedRow.__slots__ if name != "columns")


def values(row: QwedRow) -> list[Any]:
    """A row's values in the order of the table's columns."""
    return [getattr(row, name) for name in COLUMNS]


def write_sqlite(path: Path, rows: list[QwedRow]) -> str:
    """Write the rows into a new SQLite file as SQLAlchemy would; returns its DSN."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SQLITE_TABLE)
        connection.executemany(insert("?"), [sqlite_values(row) for row in rows])
    return f"sqlite:///{path}"


def insert(*marks: str) -> str:
    """An INSERT of a whole row, with one placeholder for every column, or one for each."""
    placeholders = marks if len(marks) > 1 else marks * len(COLUMNS)
    return f"INSERT INTO verificationlog ({','.join(COLUMNS)}) VALUES ({','.join(placeholders)})"


def sqlite_values(row: QwedRow) -> list[Any]:
    """A row's values as SQLAlchemy stores them in SQLite."""
    stored = values(row)
    moment = datetime.fromisoformat(str(row.timestamp))
    stored[COLUMNS.index("timestamp")] = moment.strftime("%Y-%m-%d %H:%M:%S.%f")
    return stored
