"""Hostile files that resemble bundles."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from ledger.entry import MAX_SEQ
from ledger.evidence import members
from ledger.evidence.zip_layout import END_BYTES, ZipDirectory, central_header, end, local_header
from tests.support.evidence import forge, repack
from tests.support.forged_bundles import BUNDLE, LEAVES, MEMBERS, PAYLOADS

_DIRECTORY: Final = int.from_bytes(BUNDLE[-6:-2], "little")
_NAME: Final = members.MANIFEST.encode()


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file; every one must be refused as unreadable."""
    yield from _other_files()
    yield from _zips()
    yield from _manifests()
    yield from _lines()


def _other_files() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "short", b"PK\x05\x06"
    yield "zeros", bytes(5_000)
    yield "pdf", b"%PDF-1.7\n" * 100
    yield "cut", BUNDLE[:-1]
    yield "half", BUNDLE[: len(BUNDLE) // 2]
    yield "before", b"#!/bin/sh\n" + BUNDLE
    yield "behind", BUNDLE + b"\n"
    yield "twice", BUNDLE + BUNDLE
    yield "comment", BUNDLE[:-2] + b"\x05\x00hello"


def _zips() -> Iterator[tuple[str, bytes]]:
    def put(at: int, data: bytes) -> bytes:
        return BUNDLE[:at] + data + BUNDLE[at + len(data) :]

    yield "flag", put(6, b"\x01")
    yield "deflated", put(_DIRECTORY + 10, b"\x08")
    yield "symlink", put(_DIRECTORY + 40, b"\xff")
    yield "bomb", put(_DIRECTORY + 20, b"\xff\xff\xff\x7f" * 2)
    long = b"x" * 65 + b".txt"
    for name in (b"../evil.txt", b"/etc/passwd", b"C:evil.txt", b"", long, b"<img src=x>"):
        header, central = local_header(name, 0, 0), central_header(name, 0, 0, 0)
        file = header + central + end(ZipDirectory(1, len(central), len(header)))
        yield f"name-{name[:12].decode()}", file
    data = b"quine" * 100
    body = local_header(b"a.txt", 0, len(data)) + data
    both = central_header(b"a.txt", 0, len(data), 0) + central_header(b"b.txt", 0, len(data), 0)
    yield "overlapping", body + both + end(ZipDirectory(2, len(both), len(body)))
    body = local_header(b"a.txt", 0, 0) * 2
    both = central_header(b"a.txt", 0, 0, 0) + central_header(b"a.txt", 0, 0, len(body) // 2)
    yield "duplicate", body + both + end(ZipDirectory(2, len(both), len(body)))
    yield "million", both * 10 + end(ZipDirectory(1_000_000, len(both) * 10, 0))
    yield "zip64-count", BUNDLE + end(ZipDirectory(2**64 - 1, 0, 0))
    yield "zip64-size", BUNDLE + end(ZipDirectory(70_000, 2**64 - 1, 0))
    body = local_header(_NAME, 0, 2**27 + 1)
    central = central_header(_NAME, 0, 2**27 + 1, 0)
    yield "large-manifest", body + central + end(ZipDirectory(1, len(central), len(body)))


def _manifests() -> Iterator[tuple[str, bytes]]:
    manifest = MEMBERS[members.MANIFEST]
    for old, new in (
        (b'"version":1', b'"version":2'),
        (b'"version":1', b'"version":1.0'),
        (b'"format":"quire', b'"format":"quite'),
        (b'{"anchor":7', b'{"anchor":7,"anchor":7'),
        (b'{"anchor":7', b'{ "anchor":7'),
        (b'{"anchor":7', b'{"anchor":-7'),
        (b'"checkpoint":12', b'"checkpoint":1e1'),
        (b'"count":12', b'"count":200001'),
        (b'"request":{', b'"request":{"x":1,'),
        (b'"name":"README.txt"', b'"name":"\\u0052EADME.txt"'),
        (b'"name":"README.txt"', b'"name":"STATEMENT.txt"'),
        (b'"org":"acme"', b'"org":"\\ud800"'),
        (b'"to_seq":11', b'"to_seq":%d' % (MAX_SEQ + 1)),
        (b'"include_pq_attestation":true', b'"include_pq_attestation":false'),
        (b'"include_merkle_proofs":true', b'"include_merkle_proofs":false'),
        (b'"include_payloads":true', b'"include_payloads":false'),
    ):
        assert old in manifest
        yield f"manifest-{new.decode()}", _with_manifest(manifest.replace(old, new, 1))
    yield "manifest-deep", _with_manifest(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "manifest-deeper", _with_manifest(b"[" * 1_000_000)


def _lines() -> Iterator[tuple[str, bytes]]:
    manifest = MEMBERS[members.MANIFEST]
    for name in (LEAVES, PAYLOADS):
        held = MEMBERS[name]
        for number, lines in enumerate((b"", b"\n" * 1_001, held[:-1], held + b"\n\n")):
            yield f"{name}-{number}", forge(BUNDLE, {name: lines})
    spelled = MEMBERS[PAYLOADS].replace(b'{"key"', b'{ "key"', 1)
    yield "payload-spelling", forge(BUNDLE, {PAYLOADS: spelled})
    without = {name: data for name, data in MEMBERS.items() if name != members.MANIFEST}
    for number, names in enumerate(
        (b"[]", b'{"ref:x":1}', b'{"ref:x": "y"}', b'{"ref:x":"","ref:a":""}')
    ):
        held_names = {**without, members.NAMES: names, members.MANIFEST: manifest}
        yield f"names-{number}", repack(held_names)
    missing = {name: data for name, data in MEMBERS.items() if name != members.proof(5)}
    yield "proof-missing", repack(missing)
    yield "member-added", repack({"evil.txt": b"", **MEMBERS})


def _with_manifest(manifest: bytes) -> bytes:
    """The bundle with these bytes as its manifest."""
    at = BUNDLE.rindex(MEMBERS[members.MANIFEST]) - len(local_header(_NAME, 0, 0))
    crc, size = zlib.crc32(manifest), len(manifest)
    last = central_header(_NAME, crc, size, at)
    central = BUNDLE[_DIRECTORY : -END_BYTES - len(last)] + last
    file = BUNDLE[:at] + local_header(_NAME, crc, size) + manifest
    return file + central + end(ZipDirectory(len(MEMBERS), len(central), len(file)))
