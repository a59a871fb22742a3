"""Bodies that are hard to parse, for the attack of that name."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

NDJSON: Final = "application/x-ndjson"
MSGPACK: Final = "application/msgpack"


def hostile() -> Iterator[tuple[str, bytes]]:
    """Content types and bodies that cost a parser much, and an org little."""
    nested = b"\x91\x81\xa1a" + b"\x91" * 120 + b"\xdd" + struct.pack(">I", 900_000)
    yield MSGPACK, nested + b"\0" * 900_000
    yield MSGPACK, b"\x91\x81\xa1a" + b"\x91" * 127 + b"\xdd" + struct.pack(">I", 900_000)
    yield NDJSON, b"\n " * 450_000
    yield NDJSON, b"{}\n" * 9_999
    yield "application/json", b"[" + b"{}," * 300_000 + b"{}]"
    yield "application/json", b"[" * 900_000
    yield "application/json", b'{"a":"' + b"\\u0041" * 150_000 + b'"}'
