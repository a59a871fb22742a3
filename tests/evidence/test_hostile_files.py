"""Hostile files in place of a bundle are refused in bounded time and memory."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import msgspec
import pytest

from ledger.evidence import members, zip_layout
from ledger.evidence.format import MANIFEST_BYTES_MAX, MEMBERS_MAX
from ledger.evidence.zip_layout import ZipDirectory, ZipWriter, central_header, end, local_header
from tests.support.evidence import forge, judge, members_of, repack, scene

BUNDLE = scene().bundle()
MEMBERS = members_of(BUNDLE)
END = len(BUNDLE) - zip_layout.END_BYTES
DIRECTORY = struct.unpack_from("<I", BUNDLE, END + 16)[0]
SECONDS_MAX = 30.0  # a bound on work, not a speed: without one it takes minutes
BYTES_MAX = 64 << 20


def refused(bundle: bytes, why: str = "") -> None:
    """Check that a file is refused as unreadable within bounded time and memory."""
    tracemalloc.start()
    started = time.perf_counter()
    verdict = judge(bundle)
    seconds = time.perf_counter() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdict.outcome == "unreadable", verdict
    assert verdict.unreadable is not None
    assert why in verdict.unreadable, verdict.unreadable
    assert seconds < SECONDS_MAX
    assert peak < BYTES_MAX


def zipped(add: Callable[[zipfile.ZipFile], None]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        add(file)
    return out.getvalue()


def renamed(old: str, new: str) -> bytes:
    """The bundle with one member renamed, also in its manifest."""
    return repack({new if name == old else name: data for name, data in MEMBERS.items()})


@pytest.mark.parametrize("length", [*range(40), END - 1, END, len(BUNDLE) - 1])
def test_truncated_files(length: int) -> None:
    refused(BUNDLE[:length])


def test_other_files() -> None:
    for data in (b"", b"\x00" * 5000, b"%PDF-1.7\n" * 100, BUNDLE[DIRECTORY:], b"PK\x05\x06" * 50):
        refused(data)
    refused(zipped(lambda file: None), "0 members")


def test_bytes_before_between_and_after_the_members() -> None:
    refused(b"#!/bin/sh\n" + BUNDLE)
    refused(BUNDLE + b"\n", "does not end")
    refused(BUNDLE + BUNDLE)
    moved = struct.pack("<I", DIRECTORY + 4)
    gap = BUNDLE[:DIRECTORY] + b"gap!" + BUNDLE[DIRECTORY : END + 16] + moved + BUNDLE[END + 20 :]
    refused(gap, "belong to no member")
    commented = BUNDLE[:-2] + b"\x05\x00hello"
    refused(commented, "does not end")


def test_a_zip_in_another_form() -> None:
    def rezip(compression: int) -> bytes:
        def add(file: zipfile.ZipFile) -> None:
            for name, data in MEMBERS.items():
                file.writestr(name, data, compression)

        return zipped(add)

    refused(rezip(zipfile.ZIP_DEFLATED), "not that of a stored, plain file")
    refused(rezip(zipfile.ZIP_STORED), "not that of a stored, plain file")


def test_a_zip_bomb() -> None:
    def add(file: zipfile.ZipFile) -> None:
        file.writestr("leaves/000000.ndjson", bytes(200 << 20), zipfile.ZIP_DEFLATED, 9)

    bomb = zipped(add)
    assert len(bomb) < 1 << 20
    refused(bomb, "not that of a stored, plain file")


def test_symlinks_and_folders() -> None:
    for mode, name in ((0o120777, members.README), (0o040755, "leaves/")):
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.external_attr = mode << 16
        info.create_system = 3
        refused(zipped(lambda file, info=info: file.writestr(info, "/etc/passwd")))  # type: ignore[misc]


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "/etc/passwd", "leaves/../x.txt", "C:evil.txt", "a\\b.txt", "README.TXT\x00", "",
     "readme", "leaves/000000.ndjson/", "x" * 65 + ".txt", "R\u00c9ADME.txt"],
)  # fmt: skip
def test_unknown_member_names(name: str) -> None:
    encoded = name.encode()
    header = local_header(encoded, 0, 0)
    central = central_header(encoded, 0, 0, 0)
    directory = ZipDirectory(1, len(central), len(header))
    refused(header + central + end(directory), "no member of a bundle is named")


def test_duplicate_members() -> None:
    out = io.BytesIO()
    writer = ZipWriter(out.write)
    for name, data in [*MEMBERS.items(), (members.README, b"another")]:
        writer.add(name, data)
    writer.finish()
    refused(out.getvalue(), "twice")


def test_members_that_overlap() -> None:
    data = b"quine" * 100
    header = local_header(b"a.txt", 0, len(data))
    one, two = central_header(b"a.txt", 0, len(data), 0), central_header(b"b.txt", 0, len(data), 0)
    body = header + data
    file = body + one + two + end(ZipDirectory(2, len(one) + len(two), len(body)))
    refused(file, "b.txt is not that of a stored, plain file in its place")


def test_a_local_header_that_says_other_than_the_directory() -> None:
    for at, byte in ((6, 1), (8, 8), (14, 0xFF), (18, 1), (26, 1), (30, ord("X"))):
        changed = BUNDLE[:at] + bytes([BUNDLE[at] ^ byte]) + BUNDLE[at + 1 :]
        refused(changed, "the header before README.txt")


def test_a_directory_that_lies_about_sizes() -> None:
    at = DIRECTORY + 20
    for size in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF):
        sizes = struct.pack("<2I", size, size)
        refused(BUNDLE[:at] + sizes + BUNDLE[at + 8 :])


def test_the_end_that_lies_about_the_directory() -> None:
    for format_, at, value in (
        ("<H", 8, 1), ("<H", 10, 65_535), ("<I", 12, 0xFFFFFFFF), ("<I", 12, 1), ("<I", 16, 0),
        ("<I", 16, 0xFFFFFFFF), ("<H", 4, 1), ("<H", 20, 1),
    ):  # fmt: skip
        changed = bytearray(BUNDLE)
        struct.pack_into(format_, changed, END + at, value)
        refused(bytes(changed))


def test_a_million_members() -> None:
    count = 1_000_000
    header = central_header(b"proofs/000000000001.tlog-proof", 0, 0, 0)
    directory = ZipDirectory(count, len(header) * 10, 0)
    refused(header * 10 + end(directory), f"{count} members")
    within = ZipDirectory(MEMBERS_MAX, len(header) * 10, 0)
    refused(header * 10 + end(within))


def test_a_directory_of_nothing_but_size() -> None:
    filler = bytes(1 << 20)
    refused(filler + end(ZipDirectory(1, len(filler), 0)), "larger than its members' names")


def test_zip64_ends_that_lie() -> None:
    for count, size, offset in ((2**64 - 1, 0, 0), (70_000, 2**64 - 1, 0), (70_000, 0, 2**63)):
        refused(BUNDLE + end(ZipDirectory(count, size, offset)))


def test_deep_json() -> None:
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    for name in (members.payloads(0), members.checkpoint_leaf(12), members.LOG_KEYS):
        verdict = judge(forge(BUNDLE, {name: deep + b"\n"}))
        assert verdict.exit_code in {1, 2}, name
    refused(with_manifest(deep), "manifest.json can't be read")
    refused(with_manifest(b"[" * 1_000_000), "manifest.json can't be read")


def with_manifest(manifest: bytes) -> bytes:
    out = io.BytesIO()
    writer = ZipWriter(out.write)
    for name, data in MEMBERS.items():
        writer.add(name, manifest if name == members.MANIFEST else data)
    writer.finish()
    return out.getvalue()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version":1', b'"version":2'),
        (b'"version":1', b'"version":1.0'),
        (b'"format":"quire-evidence-bundle"', b'"format":"another"'),
        (b'{"anchor":7', b'{"anchor":7,"more":1'),
        (b'{"anchor":7', b'{"anchor":7,"anchor":7'),
        (b'{"anchor":7', b'{ "anchor":7'),
        (b'{"anchor":7', b'{"anchor":-7'),
        (b'"checkpoint":12', b'"checkpoint":1e1'),
        (b'"count":12', b'"count":200001'),
        (b'"count":12', b'"count":0'),
        (b'"request":{', b'"request":{"x":1,'),
        (b'"name":"README.txt"', b'"name":"\\u0052EADME.txt"'),
        (b'"name":"README.txt"', b'"name":"STATEMENT.txt"'),
    ],
)
def test_manifests_in_another_form(old: bytes, new: bytes) -> None:
    manifest = MEMBERS[members.MANIFEST]
    assert old in manifest
    refused(with_manifest(manifest.replace(old, new, 1)), "manifest")


def test_members_missing_added_or_out_of_order() -> None:
    for missing in MEMBERS:
        left = {name: data for name, data in MEMBERS.items() if name != missing}
        bundle = repack(left) if missing != members.MANIFEST else rewritten(left)
        assert judge(bundle).exit_code in {1, 2}, missing
    first, second, *rest = MEMBERS
    refused(
        repack({name: MEMBERS[name] for name in (second, first, *rest)}), "README.txt should be"
    )
    more = {"evil.txt": b"", **MEMBERS}
    refused(repack(more), "README.txt should be")
    behind = {name: data for name, data in MEMBERS.items() if name != members.MANIFEST}
    refused(repack({**behind, "names.txt": b"", members.MANIFEST: MEMBERS[members.MANIFEST]}))


def rewritten(changed: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    writer = ZipWriter(out.write)
    for name, data in changed.items():
        writer.add(name, data)
    writer.finish()
    return out.getvalue()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (members.leaves(0), members.leaves(1)),
        (members.proof(3), "proofs/3.tlog-proof"),
        (members.checkpoint_note(12), members.checkpoint_note(13)),
        (members.anchor_note(7), members.anchor_note(8)),
        (members.anchor_cosignatures(7), members.anchor_token(7, 1)),
    ],
)
def test_members_under_other_names(old: str, new: str) -> None:
    assert judge(renamed(old, new)).exit_code in {1, 2}


def test_lines_that_do_not_fit() -> None:
    leaves, payloads = members.leaves(0), members.payloads(0)
    for name in (leaves, payloads):
        for data in (
            b"",
            b"\n" * 1_001,
            MEMBERS[name][:-1],
            MEMBERS[name] + b"\n\n",
            b"\n" * (1 << 22),
        ):
            refused(forge(BUNDLE, {name: data}))
    fewer = b"".join(MEMBERS[payloads].splitlines(keepends=True)[:-1])
    refused(forge(BUNDLE, {payloads: fewer}), "11 lines for 12 leaves")


def test_a_request_that_hides_an_anchor_or_proofs() -> None:
    manifest = msgspec.json.decode(MEMBERS[members.MANIFEST])
    for flag in ("include_pq_attestation", "include_merkle_proofs", "include_payloads"):
        changed = msgspec.json.decode(msgspec.json.encode(manifest))
        changed["request"][flag] = False
        refused(with_manifest(msgspec.json.encode(changed)))


def test_malformed_names() -> None:
    named = {name: data for name, data in MEMBERS.items() if name != members.MANIFEST}
    for names in (b"[]", b'{"ref:x":1}', b'{"ref:x": "y"}', b'{"b":"","a":""}', b"{}\n"):
        bundle = {**named, members.NAMES: names, members.MANIFEST: MEMBERS[members.MANIFEST]}
        verdict = judge(repack(bundle))
        assert verdict.exit_code == 2, names


def test_a_manifest_too_large_to_read() -> None:
    header = local_header(b"manifest.json", 0, MANIFEST_BYTES_MAX + 1)
    central = central_header(b"manifest.json", 0, MANIFEST_BYTES_MAX + 1, 0)
    directory = ZipDirectory(1, len(central), len(header))
    refused(header + central + end(directory), "at most")


def test_no_message_reaches_a_terminal_with_control_characters() -> None:
    manifest = MEMBERS[members.MANIFEST].replace(b'"org":"acme"', b'"org":"\\u001b[2Jacme"')
    verdict = judge(with_manifest(manifest))
    said = [verdict.unreadable or "", *(one for all_ in verdict.reasons.values() for one in all_)]
    assert all(text.isprintable() for text in said)
    assert verdict.exit_code in {1, 2}
