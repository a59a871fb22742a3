"""The leaf, record ids, times and tags."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger import entry
from ledger.entry import Leaf, PayloadDigest, decode_leaf, encode_leaf
from ledger.errors import MalformedLeaf, MalformedRecordId, QuireError
from tests.support.trails import leaves, raises_only

FIRST = Leaf(
    action=None,
    actor="ada",
    anchored_at="2026-01-01T12:00:00.000000Z",
    data_classification=None,
    event_type="login",
    key="k1",
    legal_basis=None,
    org="acme",
    outcome=None,
    payload=PayloadDigest("00" * 32, None, 2),
    previous_hash=None,
    seq=0,
    subject=None,
    timestamp=None,
)
BYTES = encode_leaf(FIRST)


def changed(**fields: Any) -> Leaf:
    return msgspec.structs.replace(FIRST, **fields)


@given(leaves())
def test_encoding_is_what_another_rfc_8785_implementation_makes(leaf: Leaf) -> None:
    assert encode_leaf(leaf) == rfc8785.dumps(msgspec.to_builtins(leaf))


@given(leaves())
def test_decode_undoes_encode(leaf: Leaf) -> None:
    assert decode_leaf(encode_leaf(leaf)) == leaf


@pytest.mark.parametrize(
    "text",
    [
        # RFC 8785 section 3.2.2, its string sample without the control characters.
        '€$A\'B"\\\\"/',
        "דּ\u20ac😀öé",  # the characters of section 3.2.3
        "\u2028\u2029</script>",
        "\\u0041",
    ],
)
def test_strings_are_escaped_as_rfc_8785_says(text: str) -> None:
    encoded = encode_leaf(changed(actor=text))
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').encode()
    assert b'"actor":"' + escaped + b'"' in encoded
    assert decode_leaf(encoded).actor == text


@pytest.mark.parametrize("control", ["\x00", "\n", "\x1f", "\x7f", "\x80", "\x9f"])
def test_control_characters_are_refused_both_ways(control: str) -> None:
    for leaf in (
        changed(actor=f"a{control}b"),
        changed(payload=PayloadDigest("00" * 32, control, 2)),
    ):
        with pytest.raises(MalformedLeaf, match="control character"):
            encode_leaf(leaf)
        with pytest.raises(MalformedLeaf, match="control character"):
            decode_leaf(entry.encode_leaf_unchecked(leaf))


def test_a_lone_surrogate_is_refused_as_malformed() -> None:
    with pytest.raises(MalformedLeaf):
        encode_leaf(changed(actor="\ud800"))


@pytest.mark.parametrize("seq", [-1, entry.MAX_SEQ + 1, 2**53, 2**70])
def test_seq_has_bounds_both_ways(seq: int) -> None:
    leaf = changed(seq=seq, previous_hash="00" * 32)
    with pytest.raises(MalformedLeaf):
        encode_leaf(leaf)
    with pytest.raises(MalformedLeaf):
        decode_leaf(BYTES.replace(b'"seq":0', b'"seq":%d' % seq))


@pytest.mark.parametrize("size", [-1, 2**53])
def test_payload_size_has_bounds_both_ways(size: int) -> None:
    with pytest.raises(MalformedLeaf):
        encode_leaf(changed(payload=PayloadDigest("00" * 32, None, size)))
    with pytest.raises(MalformedLeaf):
        decode_leaf(BYTES.replace(b'"size":2', b'"size":%d' % size))


@pytest.mark.parametrize(("seq", "previous"), [(0, "00" * 32), (1, None)])
def test_only_the_first_leaf_has_no_previous_hash(seq: int, previous: str | None) -> None:
    with pytest.raises(MalformedLeaf, match="previous_hash"):
        decode_leaf(entry.encode_leaf_unchecked(changed(seq=seq, previous_hash=previous)))


def test_a_leaf_beyond_the_bundle_limit_is_refused() -> None:
    room = entry.MAX_LEAF_BYTES - len(encode_leaf(changed(actor="")))
    assert len(encode_leaf(changed(actor="a" * room))) == entry.MAX_LEAF_BYTES
    with pytest.raises(MalformedLeaf, match="more than"):
        encode_leaf(changed(actor="a" * (room + 1)))
    with pytest.raises(MalformedLeaf, match="more than"):
        decode_leaf(entry.encode_leaf_unchecked(changed(actor="a" * (room + 1))))


@pytest.mark.parametrize(
    "other",
    [
        BYTES + b"\n",
        b" " + BYTES,
        b"\xef\xbb\xbf" + BYTES,
        BYTES.replace(b":", b": ", 1),
        BYTES.replace(b"ada", b"\\u0061da"),
        BYTES.replace(b'"action":null,"actor":"ada"', b'"actor":"ada","action":null'),
        BYTES.replace(b'"actor":"ada"', b'"actor":"eve","actor":"ada"'),
        BYTES.replace(b'"seq":0', b'"seq":-0'),
        BYTES.replace(b'"seq":0', b'"seq":0.0'),
        BYTES.replace(b'"seq":0', b'"seq":0e0'),
        BYTES.replace(b'"action":null,', b""),
        BYTES.replace(b',"v":1', b""),
        BYTES.replace(b',"v":1', b',"v":2'),
        BYTES.replace(b',"v":1', b',"v":1,"w":1'),
        BYTES.replace(b'"seq":0', b'"seq":' + b"9" * 5000),
        BYTES[:-1],
        b"",
        b"null",
        b"[]",
        b"[" * 60_000,
        BYTES.replace(b"ada", b"\xff"),
        BYTES.replace(b"ada", b"\\ud800"),
    ],
)
def test_other_spellings_of_a_leaf_are_refused(other: bytes) -> None:
    with pytest.raises(MalformedLeaf):
        decode_leaf(other)


@given(st.binary(max_size=400) | st.text().map(str.encode))
def test_decode_leaf_raises_only_its_own_errors(data: bytes) -> None:
    raises_only(QuireError, lambda: decode_leaf(data))


@given(st.integers(0, len(BYTES) - 1), st.binary(max_size=8))
def test_a_damaged_leaf_that_decodes_encodes_back(place: int, put: bytes) -> None:
    damaged = BYTES[:place] + put + BYTES[place + 1 :]
    try:
        decoded = decode_leaf(damaged)
    except MalformedLeaf:
        return
    assert rfc8785.dumps(msgspec.to_builtins(decoded)) == damaged


def test_entry_hash_is_the_rfc_6962_leaf_hash() -> None:
    # The leaf hash of the empty leaf, and of the first leaf, in the published
    # test vectors of Certificate Transparency's reference implementations.
    empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert entry.entry_hash(b"").hex() == empty
    later = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
    assert entry.entry_hash(b"\x00").hex() == later
    assert entry.entry_hash(BYTES) == sha256(b"\x00" + BYTES).digest()


def test_payload_digest_is_blake3() -> None:
    # The published vector of BLAKE3 for no input.
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert entry.payload_digest(b"", "org") == PayloadDigest(empty, "org", 0)


def test_search_tags_are_the_first_three_bytes() -> None:
    assert entry.search_tag(None) == 0
    # SHA-256("") is e3b0c442 ..., SHA-256("abc") ba7816bf ...
    assert entry.search_tag("") == 0xE3B0C4
    assert entry.search_tag("abc") == 0xBA7816


@given(st.text(st.characters(codec="utf-8")))
def test_search_tags_have_24_bits_and_are_never_zero(value: str) -> None:
    assert 0 < entry.search_tag(value) < 2**24


@given(st.integers(0, entry.MAX_TIME_US))
def test_times_survive_the_way_through_a_datetime(time_us: int) -> None:
    assert entry.from_datetime(entry.to_datetime(time_us)) == time_us
    text = entry.format_time(time_us)
    assert len(text) == 27
    assert text.endswith("Z")
    assert entry.from_datetime(datetime.fromisoformat(text)) == time_us
    assert entry.rfc3339(entry.to_datetime(time_us)) == text


def test_the_bounds_of_time() -> None:
    assert entry.format_time(0) == "1970-01-01T00:00:00.000000Z"
    assert entry.format_time(entry.MAX_TIME_US) == "4253-05-31T22:20:37.927935Z"
    assert entry.to_datetime(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert (
        entry.from_datetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=1)) == 86_400 * 10**6
    )


@given(
    st.integers(0, entry.MAX_ORG_ID),
    st.integers(0, entry.MAX_TIME_US),
    st.integers(0, entry.MAX_SEQ),
)
def test_record_ids_contain_their_parts(org_id: int, time_us: int, seq: int) -> None:
    text = entry.record_id(org_id, time_us, seq)
    assert len(text) == 36
    assert entry.parse_record_id(text) == (org_id, time_us, seq)


def test_a_record_id_at_its_bounds() -> None:
    assert entry.parse_record_id("rec_" + "f" * 32) == (
        entry.MAX_ORG_ID,
        entry.MAX_TIME_US,
        entry.MAX_SEQ,
    )
    assert entry.record_id(1, 2, 3) == "rec_00000001000000000000020000000003"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rec_",
        "rec_" + "0" * 31,
        "rec_" + "0" * 33,
        "rec_" + "0" * 31 + "A",
        "rec_" + "0" * 31 + "\uff11",
        "rec_" + "0" * 32 + "\n",
        " rec_" + "0" * 32,
        "REC_" + "0" * 32,
        "\ud800",
    ],
)
def test_other_text_is_not_a_record_id(text: str) -> None:
    with pytest.raises(MalformedRecordId):
        entry.parse_record_id(text)


@given(st.text())
def test_parse_record_id_raises_only_its_own_error(text: str) -> None:
    raises_only(QuireError, lambda: entry.parse_record_id(text))
