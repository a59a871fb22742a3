"""The transport of a connection: a head goes with its body, never later than its turn of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from server.http.protocol.watching.transport import JOINED_BYTES, MeteredTransport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire:
    """The transport below: what was sent, call by call, and whether it was closed."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False
        self.extra: dict[str, Any] = {}

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the close"
        self.sent.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    abort = close

    def get_extra_info(self, name: str) -> Any:
        return self.extra.get(name)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def metered() -> tuple[MeteredTransport, Wire, list[Callable[[], None]]]:
    """Return a transport, what lies below it, and what the loop would call soon."""
    wire, soon = Wire(), list[Callable[[], None]]()
    return MeteredTransport(cast("Any", wire), soon.append), wire, soon


def test_a_head_is_sent_with_its_body() -> None:
    transport, wire, soon = metered()
    transport.write(HEAD)
    assert (transport.unsent(), transport.taken, wire.sent) == (len(HEAD), 0, [])
    transport.write(b"body")
    transport.write(b"more")
    for call in soon:
        call()
    assert wire.sent == [HEAD + b"body", b"more"]
    assert transport.taken == transport.written == len(HEAD) + 8


def test_a_head_alone_is_sent_in_its_turn() -> None:
    transport, wire, soon = metered()
    transport.write(HEAD)
    soon.pop()()
    transport.write(HEAD)
    assert (wire.sent, len(soon)) == ([HEAD], 1)
    soon.pop()()
    assert wire.sent == [HEAD, HEAD]


def test_a_large_body_is_not_copied() -> None:
    transport, wire, _ = metered()
    body = bytes(JOINED_BYTES + 1)
    transport.write(HEAD)
    transport.write(body)
    assert wire.sent == [HEAD, body]
    assert wire.sent[1] is body


def test_a_head_is_sent_before_a_close_and_not_after_a_reset() -> None:
    transport, wire, soon = metered()
    transport.write(HEAD)
    transport.close()
    soon.pop()()
    assert (wire.sent, wire.closed) == ([HEAD], True)
    transport, wire, soon = metered()
    transport.write(HEAD)
    transport.reset()
    soon.pop()()
    assert (wire.sent, wire.closed) == ([], True)
