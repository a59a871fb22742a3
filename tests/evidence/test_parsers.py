"""Every parser of bundles reads arbitrary and altered bytes, or raises one of our own errors."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import EvidenceError
from ledger.evidence import format as bundle_format
from ledger.evidence import members
from ledger.evidence.format import decode, decode_names, encode
from ledger.evidence.reader import BundleFile
from ledger.evidence.verdict import printable
from ledger.evidence.verification.entries import split_lines
from ledger.evidence.zip_layout import ZipDirectory, end, parse_central, parse_end
from tests.support.evidence import forge, judge, members_of, scene
from tests.support.trails import raises_only

BUNDLE = scene(3).bundle()
MEMBERS = members_of(BUNDLE)
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "manifest": (
        lambda data: decode(bundle_format.read_manifest, data, "it"),
        MEMBERS[members.MANIFEST],
    ),
    "anchor leaf": (
        lambda data: decode(bundle_format.read_anchor_leaf, data, "it"),
        MEMBERS[members.checkpoint_leaf(3)],
    ),
    "payload": (
        lambda data: decode(bundle_format.read_payload, data, "it"),
        MEMBERS[members.payloads(0)].splitlines()[0],
    ),
}
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=4
)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """The data with some runs of bytes replaced."""
    for place, length, inserted in changes:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + length :]
    return data


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    raises_only(EvidenceError, lambda: BundleFile(BytesIO(data)))
    assert judge(data).outcome == "unreadable"


@given(edits)
def test_no_edited_bundle_passes(changes: list[tuple[float, int, bytes]]) -> None:
    data = edited(BUNDLE, changes)
    verdict = judge(data)
    if data != BUNDLE:
        request = data.find(b'"request":')
        assert verdict.outcome in {"refuted", "unreadable"} or data[:request] == BUNDLE[:request]


@given(st.sampled_from(sorted(MEMBERS)), edits)
def test_no_edited_member_raises_a_foreign_error(
    name: str, changes: list[tuple[float, int, bytes]]
) -> None:
    if name == members.MANIFEST:
        return
    judge(forge(BUNDLE, {name: edited(MEMBERS[name], changes)}))


@given(st.sampled_from(sorted(MEMBERS)), st.binary(max_size=200))
def test_no_exchanged_member_raises_a_foreign_error(name: str, data: bytes) -> None:
    if name != members.MANIFEST:
        judge(forge(BUNDLE, {name: data}))


@pytest.mark.parametrize("kind", sorted(DECODERS))
@given(data=st.binary(max_size=200), changes=edits)
def test_json_members_have_one_spelling(
    kind: str, data: bytes, changes: list[tuple[float, int, bytes]]
) -> None:
    read, good = DECODERS[kind]
    for candidate in (data, edited(good, changes)):
        try:
            value = read(candidate)
        except EvidenceError:
            continue
        assert encode(value) == candidate
    assert encode(read(good)) == good


@given(
    st.dictionaries(st.text(max_size=5).map("ref:{}".format), st.text(max_size=5), max_size=4)
    | st.none(),
    st.binary(),
)
def test_names_have_one_spelling(names: dict[str, str] | None, data: bytes) -> None:
    raises_only(EvidenceError, lambda: decode_names(data, "names"))
    if names is not None:
        ordered = dict(sorted(names.items()))
        assert decode_names(encode(ordered), "names") == names
        if list(names) != list(ordered):
            with pytest.raises(EvidenceError, match="canonical"):
                decode_names(encode(names), "names")


@pytest.mark.parametrize("key", ["", "ref", "Ref:x", "actor", " ref:x"])
def test_names_of_anything_but_refs_are_refused(key: str) -> None:
    for names in ({key: "Ada"}, dict(sorted({key: "Ada", "ref:x": "Bob"}.items()))):
        with pytest.raises(EvidenceError, match="not a ref"):
            decode_names(encode(names), "names")


@given(st.binary(max_size=200), st.integers(0, 200))
def test_zip_headers_are_read_or_not(data: bytes, at: int) -> None:
    parse_central(data, at)
    directory = parse_end(data)
    assert directory is None or data.endswith(end(directory))


@given(st.integers(0, 2**40), st.integers(0, 2**61), st.integers(0, 2**61))
def test_every_end_is_read_back(count: int, size: int, offset: int) -> None:
    directory = ZipDirectory(count, size, offset)
    assert parse_end(bytes(98) + end(directory)) == directory


@given(st.binary(max_size=200))
def test_joined_lines_are_split_again(data: bytes) -> None:
    try:
        lines = split_lines("lines", data)
    except EvidenceError:
        assert not data.endswith(b"\n")
    else:
        assert b"".join(line + b"\n" for line in lines) == data


@given(st.text())
def test_shown_text_is_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 400


def test_the_longest_manifest_of_names_is_read_quickly() -> None:
    refs = {f"ref:{number:022}": "x" for number in range(100_000)}
    assert len(decode_names(msgspec.json.encode(refs), "names")) == 100_000
