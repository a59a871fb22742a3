"""The digest of a security event, by the example of its documentation and code of its own."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger.storage.security_events import SecurityEventRow

PAGE = Path(__file__).parents[2] / "docs" / "format.md"


def documented() -> tuple[str, str]:
    """The row and the digest of the page's example."""
    section = PAGE.read_text(encoding="utf-8").partition("### Security events\n")[2]
    row, digest = re.search(r"```json\n(.+?)\n```.+?`([0-9a-f]{64})`", section, re.DOTALL).groups()  # type: ignore[union-attr]
    return row, digest


def row_of(**changes: Any) -> SecurityEventRow:
    columns = {**json.loads(documented()[0]), **changes}
    return SecurityEventRow(**{**columns, "at": datetime.fromisoformat(columns["at"])})


def test_the_example_has_its_digest() -> None:
    text, digest = documented()
    assert hashlib.sha256(b"quire security event 1\0" + text.encode()).hexdigest() == digest
    assert row_of().digest().hex() == digest


@pytest.mark.parametrize(
    "change",
    [
        {"id": 8}, {"at": "2026-01-31T12:00:00.000001Z"}, {"kind": "x"}, {"detail": "x"},
        {"severity": "low"}, {"layer": "x"}, {"score": 0}, {"key_id": ""}, {"details": "{ }"},
    ],
    ids=str,
)  # fmt: skip
def test_each_column_changes_the_digest(change: dict[str, Any]) -> None:
    assert row_of(**change).digest() != row_of().digest()
