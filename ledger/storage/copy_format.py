"""PostgreSQL's binary COPY format: the constants that writer and reader share.

PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

from typing import Final

COPY_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00"
"""The beginning of a stream; flags and the length of an extension, four bytes each, follow."""
COPY_TRAILER: Final = b"\xff\xff"
PG_EPOCH_US: Final = 946_684_800_000_000
"""PostgreSQL's epoch, 2000-01-01, in microseconds since the Unix epoch."""
