"""Every parser of outside bytes is linear, and takes a bounded time for a MiB, on hostile bodies.

Times are compared with a loop of plain Python on the same machine at the same moment, so that a slow or
busy machine changes nothing. Processor time is measured, not the clock on the wall.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from ledger.errors import QuireError
from ledger.event import parse_json, parse_msgpack, parse_ndjson
from server.http.api.bundles import CreateBundle
from server.http.bodies import decoded

MIB: Final = 1 << 20
SMALL: Final = 1 << 18
GROWTH: Final = 4
MOST_GROWTH: Final = 12.0
"""A parser that is linear takes 4 times as long for 4 times as much; a quadratic one 16 times."""
MOST_LOOPS: Final = 100_000_000
"""Rounds of the plain loop that a MiB may cost: about a second on the machine of the benchmark."""
LIMITS: Final = {"max_events": 10_000, "max_payload": 64 * MIB}

Parse = Callable[[bytes], Any]


def filled(head: bytes, unit: bytes, tail: bytes, size: int) -> bytes:
    return head + unit * ((size - len(head) - len(tail)) // len(unit)) + tail


def deep(size: int) -> bytes:
    """Arrays beside each other, each as deep as allowed."""
    return filled(b'{"a":[', b"[" * 120 + b"]" * 120 + b",", b"0]}", size)


def names(size: int) -> bytes:
    """Many names, the last of which is there twice."""
    listed = b",".join(b'"%07d":0' % number for number in range(size // 12))
    return b'{"1.50":1.50,' + listed + b',"0000000":1}'


JSON: Final[dict[str, Callable[[int], bytes]]] = {
    "white space": lambda size: filled(b"{", b" \n", b"}", size),
    "white space before": lambda size: filled(b"", b" \n", b"{}", size),
    "white space alone": lambda size: b"\n" * size,
    "empty objects": lambda size: filled(b'{"a":[', b"{},", b"1.50]}", size),
    "deep": deep,
    "too deep": lambda size: b"[" * size,
    "never closed": lambda size: b'{"a":' * (size // 5),
    "names": names,
    "one number": lambda size: filled(b'{"a":', b"9", b"}", size),
    "one fraction": lambda size: filled(b'{"a":0.', b"0", b"1}", size),
    "numbers": lambda size: filled(b'{"a":[', b"9" * 4_000 + b",", b"0]}", size),
    "exponents": lambda size: filled(b'{"a":[', b"1E-400,", b"0]}", size),
    "escapes": lambda size: filled(b'{"a":"', b"\\u0041", b'"}', size),
    "backslashes": lambda size: filled(b'{"a":"', b"\\\\", b'"}', size),
    "quotes and brackets": lambda size: filled(b'{"a":[', b'"\\"[{",', b"0]}", size),
    "surrogates": lambda size: filled(b'{"a":"', b"\\ud800", b'"}', size),
    "open text": lambda size: filled(b'{"a":"', b"\\", b"", size),
    "no UTF-8": lambda size: filled(b'{"a":"', b"a", b'\xff"}', size),
    "events": lambda size: filled(b"[", b"{},", b"{}]", size),
    "scalars": lambda size: filled(b"[", b"1,", b"1]", size),
    "large events": lambda size: filled(b"[", b'{"a":[' + b"1.50," * 800 + b"1]},", b"{}]", size),
    "misspelt": lambda size: b"{" + b",".join(b'"Act%07d":0' % n for n in range(size // 14)) + b"}",
}
NDJSON: Final[dict[str, Callable[[int], bytes]]] = {
    **JSON,
    "blank lines": lambda size: b"\n " * (size // 2),
    "blank lines and an event": lambda size: filled(b"", b"\n \r", b"{}", size),
    "white lines": lambda size: filled(b"{}\n", b" " * 500 + b"\n", b"{}", size),
    "an event and white space": lambda size: filled(b"{}", b" \t", b"", size),
    "lines": lambda size: b"{}\n" * (size // 3),
    "lines of events": lambda size: (b'{"a":"' + b"b" * 990 + b'"}\n') * (size // 1_000),
    "pretty": lambda size: filled(b'{"a":[\n', b"1,\n", b"1]}", size),
}


def packed(inner: bytes) -> bytes:
    return b"\x91\x81\xa1a" + inner


def array(count: int, elements: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + elements


MSGPACK: Final[dict[str, Callable[[int], bytes]]] = {
    "deep, then wide": lambda size: packed(b"\x91" * 120 + array(size, bytes(size))),
    "too deep, then wide": lambda size: packed(b"\x91" * 127 + array(size, bytes(size))),
    "too deep": lambda size: packed(b"\x91" * size),
    "chains": lambda size: packed(array(size // 120, (b"\x91" * 119 + b"\xc0") * (size // 120))),
    "pairs": lambda size: packed(array(size // 2, b"\x91\xc0" * (size // 2))),
    "empty maps": lambda size: packed(array(size, b"\x80" * size)),
    "empty bytes": lambda size: packed(array(size // 2, b"\xc4\x00" * (size // 2))),
    "texts": lambda size: packed(array(size // 2, b"\xa1a" * (size // 2))),
    "extensions": lambda size: packed(array(size // 6, b"\xd6\xff\x00\x00\x00\x01" * (size // 6))),
    "one text": lambda size: packed(b"\xdb" + size.to_bytes(4, "big") + b"a" * size),
    "names": lambda size: packed(
        b"\xdf"
        + (size // 10).to_bytes(4, "big")
        + b"".join(b"\xa8%08d\xc0" % number for number in range(size // 10))
    ),
    "names twice": lambda size: packed(
        b"\xdf" + (size // 3).to_bytes(4, "big") + b"\xa1a\x90" * (size // 3)
    ),
    "names of maps": lambda size: packed(array(size // 4, b"\x81\xa1a\xc0" * (size // 4))),
    "declared only": lambda size: packed(b"\xdd\xff\xff\xff\xff" + bytes(size)),
    "events": lambda size: array(size, b"\x80" * size),
    "json": lambda size: b'{"a":1}' * (size // 7),
}


def quietly(parse: Parse) -> Parse:
    def parsed(body: bytes) -> Any:
        try:
            return parse(body)
        except QuireError:
            return None

    return parsed


PARSERS: Final[list[tuple[str, Parse, dict[str, Callable[[int], bytes]]]]] = [
    ("json", quietly(lambda body: parse_json(body, **LIMITS)), JSON),
    ("ndjson", quietly(lambda body: parse_ndjson(body, **LIMITS)), NDJSON),
    ("msgpack", quietly(lambda body: parse_msgpack(body, **LIMITS)), MSGPACK),
    ("administrative", quietly(lambda body: decoded(body, CreateBundle)), JSON),
]
CASES: Final = [
    pytest.param(parse, make, id=f"{name}: {case}")
    for name, parse, cases in PARSERS
    for case, make in cases.items()
]


def loop_s(rounds: int) -> float:
    """Return the processor time of the plain loop."""
    started = time.process_time()
    for _ in range(rounds):
        pass
    return time.process_time() - started


def spent_s(parse: Parse, body: bytes) -> float:
    """Return the least processor time of five runs, without the collection of cycles."""
    found = []
    for _ in range(5):
        gc.collect()
        gc.disable()
        started = time.process_time()
        parse(body)
        found.append(time.process_time() - started)
        gc.enable()
        if found[-1] > 1.0:
            break
    return min(found)


@pytest.mark.parametrize(("parse", "make"), CASES)
def test_a_parser_is_linear_and_fast_enough(parse: Parse, make: Callable[[int], bytes]) -> None:
    small, large = spent_s(parse, make(SMALL)), spent_s(parse, make(GROWTH * SMALL))
    assert large < MOST_LOOPS / 1_000_000 * loop_s(1_000_000)
    # What takes two thousandths of a second is fast enough, and can't be compared.
    assert large < MOST_GROWTH * max(small, 0.002)
