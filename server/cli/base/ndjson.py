"""Reads events from the lines of a stream and groups them into requests; skips blank lines."""

from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, TypeAlias

from ledger.client.errors import EventEncodingError
from ledger.client.events import MAX_REQUEST_BYTES, encode
from ledger.malformed import json_fault

BATCH_EVENTS = 1_000
_SKIP_BYTES = 1 << 20


class EventLine(NamedTuple):
    """A line that is one JSON object; `number` is 1-based, `event` the object as written."""

    number: int
    event: bytes


class BadLine(NamedTuple):
    """A line that is not an event, or one that the server refused."""

    line: int
    reason: str


Batch: TypeAlias = list[EventLine]


class EventLines:
    """The lines of a stream, in order; `bytes_read` counts the bytes read so far."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.bytes_read = 0

    def __iter__(self) -> Iterator[EventLine | BadLine]:
        number = 0
        while raw := self._stream.readline(MAX_REQUEST_BYTES):
            number += 1
            self.bytes_read += len(raw)
            if len(raw) == MAX_REQUEST_BYTES and not raw.endswith(b"\n"):
                self._skip_line()
                yield BadLine(number, f"longer than {MAX_REQUEST_BYTES:,} bytes")
            elif text := raw.strip(b" \t\r\n"):
                yield _read(number, text)

    def _skip_line(self) -> None:
        while (raw := self._stream.readline(_SKIP_BYTES)) and not raw.endswith(b"\n"):
            self.bytes_read += len(raw)
        self.bytes_read += len(raw)


def _read(number: int, text: bytes) -> EventLine | BadLine:
    try:
        text.decode()
        return EventLine(number, encode(text))
    except UnicodeDecodeError as error:
        return BadLine(number, json_fault(text, error))
    except EventEncodingError as error:
        return BadLine(number, error.reason)


def batches(lines: Iterable[EventLine | BadLine]) -> Iterator[Batch | BadLine]:
    """Yield batches that each fit into one request; a bad line follows the lines before it.

    The same lines always give the same batches.
    """
    batch: Batch = []
    size = 2  # the brackets of a JSON array; each event adds its bytes and a comma
    for line in lines:
        full = isinstance(line, BadLine) or len(batch) >= BATCH_EVENTS
        if batch and (full or size + len(line[1]) + 1 > MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 2
        if isinstance(line, BadLine):
            yield line
            continue
        batch.append(line)
        size += len(line.event) + 1
    if batch:
        yield batch
