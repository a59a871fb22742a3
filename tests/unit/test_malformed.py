"""Messages about undecodable bodies name the fault, without a decoder's internal names."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidEvent
from ledger.event import parse_json, parse_msgpack, parse_ndjson
from ledger.malformed import misfit

BOUNDS: Any = {"max_events": 10, "max_payload": 10_000}


def said(parse: Any, body: bytes) -> str:
    with pytest.raises(InvalidEvent) as caught:
        parse(body, **BOUNDS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"note":"\\ud800"}', "half of a surrogate pair"),
        (b'[{"note":"\\ud800"}]', "half of a surrogate pair"),
        (b'{"note":"\\ud800\\u0041"}', "half of a surrogate pair"),
        (b'{"note":"\\uDC00"}', "half of a surrogate pair"),
        (b'{"\\udfff":1}', "half of a surrogate pair"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xef\xbb\xbf[{}]", "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "UTF-16"),
        ('{"a":1}'.encode("utf-16-be"), "UTF-16"),
        ('[{"a":1}]'.encode("utf-16-le"), "UTF-16"),
        ('{"a":1}'.encode("utf-32"), "UTF-32"),
        (b'{"a":"\xe9"}', "not UTF-8: byte 6"),
        (b'{"a":NaN}', "NaN is not a number"),
        (b'[{"a":-Infinity}]', "-Infinity is not a number"),
        (b'{"a":1', "ends before it is complete"),
        (b'{"a":"x', "ends before it is complete"),
        (b'[{"a":1}', "ends before it is complete"),
        (b'{\n"a":1,\n"b" 2}', "line 3, column 5"),
        (b"{'a':1}", "double quotes (character 2)"),
        (b'{"a":1}{"b":2}', "extra data (character 8)"),
        (b'{"a":"\x00"}', "control character"),
        (b'{"actor":5}', "actor must be text or null, not a whole number"),
        (b'{"actor":[]}', "actor must be text or null, not an array"),
        (b"[1]", "an event must be an object, not a whole number"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "nests too deeply"),
        (b"[" * 100_000, "nests too deeply"),
    ],
)
def test_a_bad_json_body_is_named_with_its_fault(body: bytes, words: str) -> None:
    assert words in said(parse_json, body)


@pytest.mark.parametrize("body", [b'{\n  "a": 1\n}\n', b'[\n{"a":1},\n{"b":2}\n]', b'{"a":\n1}'])
def test_pretty_printed_json_is_known_among_ndjson(body: bytes) -> None:
    assert "send it as application/json" in said(parse_ndjson, body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x81\xa1a\x01", "must be an array, not an object"),
        (b'{"a":1}', "must be an array"),
        (b"\x91\x81\x01\x02", "names in an object must be text, not a whole number"),
        (b"\x91\x81\xa1a\x81\xc0\x02", "names in an object must be text, not null"),
        (b"\x91\x81\xc4\x01a\x01", "names in an object must be text, not binary data"),
        (b"\x91\x81\xa5actor\xc4\x01a", "actor must be text or null, not binary data"),
        (b"\x91\x81\xa5actor\xd4\x05\x00", "actor must be text or null, not an extension value"),
        (b"\x91\x81\xa1a\xc7\x03\xff\x00\x00\x00", "timestamp extension"),
        (b"\x91\x81\xa1a\xd7\xff" + b"\xff" * 8, "timestamp extension"),
        (b"\x91\x81\xa1a\x91\xc7\x0c\xff" + b"\xff" * 12, "timestamp extension"),
        (b"\x91\x81\xa1a\xc9\x00\x00\x00\x01\xff\x00", "timestamp extension"),
        (b"\x91\x81\xa1a", "ends before it is complete"),
        (b"\x91\x81\xa1\xff\x01", "not UTF-8"),
        (b"\x91\xc1", "byte 1 (0xc1) begins no value"),
        (b"\x91\x80\x00", "trailing characters (at byte 2)"),
        (b"\x91\x81\xa1a\xdb\xff\xff\xff\xff", "ends before it is complete"),
    ],
)
def test_a_bad_messagepack_body_is_named_with_its_fault(body: bytes, words: str) -> None:
    assert words in said(parse_msgpack, body)


@pytest.mark.parametrize("extension", [
    b"\xd6\xff\x00\x00\x00\x01", b"\xd7\xff" + b"\x00" * 8, b"\xc7\x0c\xff" + b"\x00" * 12,
    b"\xc7\x0c\xff\x3b\x9a\xc9\xff" + b"\x7f" + b"\xff" * 7, b"\xd4\x05\x00", b"\xc7\x00\x01", b"\xc8\x00\x01\x80\x00",
])  # fmt: skip
def test_extensions_in_their_form_are_kept(extension: bytes) -> None:
    event = b"\x81\xa1a" + extension
    assert parse_msgpack(b"\x91" + event, **BOUNDS)[0].payload == event


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    kinds: list[Literal["a", "b"]] | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    name: Annotated[str, msgspec.Meta(max_length=3)] = ""
    tag: Annotated[str, msgspec.Meta(pattern="^x$", description="the letter x")] = "x"
    step: Annotated[int, msgspec.Meta(multiple_of=5)] = 5
    pair: tuple[int, int] = (1, 1)
    sizes: dict[str, int] = msgspec.field(default_factory=dict)
    level: Literal[1, 2] = 1
    at: datetime | None = None
    data: bytes = b""
    span: timedelta | None = None


class Outer(msgspec.Struct):
    inner: Inner
    role: Literal["admin", "viewer"] | None = None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[]", "the body must be an object, not an array"),
        (b"{}", "inner is missing"),
        (b'{"inner":{"x":1}}', '"x" is not a member of inner'),
        (b'{"inner":{"kinds":["c"]}}', 'inner.kinds[0] must be "a" or "b"'),
        (b'{"inner":{"count":0}}', "inner.count must be at least 1"),
        (b'{"inner":{"count":10}}', "inner.count must be at most 9"),
        (b'{"inner":{"count":1.5}}', "inner.count must be a whole number, not a fraction"),
        (b'{"inner":{"count":true}}', "inner.count must be a whole number, not true or false"),
        (b'{"inner":{"name":"abcd"}}', "inner.name must have at most 3 characters"),
        (b'{"inner":{"tag":"y"}}', "inner.tag must be the letter x"),
        (b'{"inner":{"step":3}}', "inner.step must be a multiple of 5"),
        (b'{"inner":{"pair":[1]}}', "inner.pair must have 2 elements"),
        (b'{"inner":{"pair":[1,"a"]}}', "inner.pair[1] must be a whole number, not text"),
        (
            b'{"inner":{"sizes":{"a":"b"}}}',
            "a value in inner.sizes must be a whole number, not text",
        ),
        (b'{"inner":{"level":3}}', "inner.level must be 1 or 2"),
        (b'{"inner":{"count":1e400}}', "inner.count is out of range"),
        (b'{"inner":{"at":"noon"}}', "inner.at must be an RFC 3339 time"),
        (b'{"inner":{"at":1}}', "inner.at must be an RFC 3339 time or null, not a whole number"),
        (b'{"inner":{"data":"*"}}', "inner.data must be base64"),
        (b'{"inner":{"span":"P"}}', "inner.span is not valid here"),
        (b'{"inner":{},"role":"x"}', 'role must be "admin" or "viewer"'),
        (b'{"inner":null}', "inner must be an object, not null"),
    ],
)
def test_a_bad_member_is_named_with_its_valid_values(body: bytes, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=Outer)
    assert misfit(caught.value, Outer, what="the body") == words


json_like = st.text(alphabet='{}[]":,\\u0aAdD8cC9eEnNulltrue-+. \n\x00\ufeff', max_size=40)


@given(body=json_like.map(str.encode) | st.binary(max_size=60))
def test_no_message_names_a_type_or_a_representation(body: bytes) -> None:
    for parse in (parse_json, parse_ndjson, parse_msgpack):
        try:
            parse(body, **BOUNDS)
        except InvalidEvent as error:
            text = str(error)
            assert "`" not in text
            assert "regex" not in text
            assert "codec" not in text
            assert "Expected" not in text
            assert "b'" not in text
            assert "truncated" not in text
