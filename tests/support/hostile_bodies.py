"""Hostile bodies of each form, of any size: for the time that parsers take, and for loop delays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

MIB: Final = 1 << 20


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
