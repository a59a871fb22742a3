"""QWED's audit log as CSV (RFC 4180), a page at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

from server.qwed.bodies import LogBody

HEADER: Final = ("Timestamp", "Request Input", "Verification Result", "Engine", "Status")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Beginnings that a spreadsheet takes for a formula, or drops before one."""


def header() -> bytes:
    """Return the first line."""
    return _lines([HEADER])


async def lines(pages: AsyncIterator[list[LogBody]]) -> AsyncGenerator[bytes, None]:
    """Yield the lines of each page of rows."""
    async for rows in pages:
        if rows:
            yield _lines([_cells(row) for row in rows])


def _cells(row: LogBody) -> Sequence[str]:
    told = (row.created_at, row.request_input, row.verification_result, row.engine_used, row.status)
    return [_cell(text or "") for text in told]


def _cell(text: str) -> str:
    """Return a text that no spreadsheet calculates: an apostrophe before what looks like a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()
