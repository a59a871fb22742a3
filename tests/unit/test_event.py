"""Events in their four body forms: the bytes kept, the fields recognised, the refusals."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import event
from ledger.errors import InvalidEvent, PayloadTooLarge, QuireError
from ledger.event import Event, EventFields, is_json_payload
from ledger.packed import MAX_DEPTH
from tests.support.trails import raises_only

Parser = Callable[[bytes], list[Event]]
LIMITS = {"max_events": 100, "max_payload": 100_000}
WEBHOOKS = Path(__file__).parent.parent / "data/octokit/webhooks.jsonl.gz"


def one(body: bytes) -> list[Event]:
    events, single = event.parse_json(body, **LIMITS)
    assert single
    return events


def array(body: bytes) -> list[Event]:
    events, single = event.parse_json(body, **LIMITS)
    assert not single
    return events


def ndjson(body: bytes) -> list[Event]:
    return event.parse_ndjson(body, **LIMITS)


def msgpack(body: bytes) -> list[Event]:
    return event.parse_msgpack(body, **LIMITS)


def refused(parse: Parser, body: bytes) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as caught:
        parse(body)
    return caught.value


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"))
)
names = st.text(st.characters(codec="utf-8")).filter(lambda n: n not in event.FIELD_NAMES)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=5)
spellings = st.sampled_from(
    [
        {"separators": (",", ":"), "ensure_ascii": False},
        {"separators": (",", ":")},
        {},
        {"indent": 2},
    ]
)


@given(objects, spellings)
def test_one_object_is_kept_byte_for_byte(value: dict[str, Any], style: dict[str, Any]) -> None:
    body = b" \r\n" + json.dumps(value, **style).encode() + b"\n\t"
    assert [e.payload for e in one(body)] == [body]


@given(st.lists(objects, min_size=1, max_size=4), spellings)
def test_elements_of_an_array_are_kept_byte_for_byte(
    parts: list[dict[str, Any]], style: dict[str, Any]
) -> None:
    sent = [json.dumps(part, **style).encode() for part in parts]
    assert [e.payload for e in array(b" [ " + b" ,\n".join(sent) + b" ] ")] == sent


@given(st.lists(objects, min_size=1, max_size=4))
def test_lines_of_ndjson_are_kept_byte_for_byte(parts: list[dict[str, Any]]) -> None:
    sent = [json.dumps(part).encode() for part in parts]
    assert [e.payload for e in ndjson(b"\r\n \t\r\n".join([b"", *sent, b""]))] == sent


@given(st.lists(objects, min_size=1, max_size=4))
def test_maps_of_messagepack_are_kept_byte_for_byte(parts: list[dict[str, Any]]) -> None:
    sent = [msgspec.msgpack.encode(part) for part in parts]
    assert [e.payload for e in msgpack(bytes([0x90 + len(sent)]) + b"".join(sent))] == sent


FIELDS = {name: f"{name} ü" for name in event.FIELD_NAMES} | {"timestamp": "2026-01-31T12:00:00Z"}


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (one, json.dumps(FIELDS).encode()),
        (array, b"[" + json.dumps(FIELDS).encode() + b"]"),
        (ndjson, json.dumps(FIELDS).encode()),
        (msgpack, msgspec.msgpack.encode([FIELDS])),
    ],
)
def test_nine_names_are_recognised(parse: Parser, body: bytes) -> None:
    assert parse(body)[0].fields == EventFields(**FIELDS)


@pytest.mark.parametrize("body", [b"{}", b'{"meta":{"actor":"x"},"Actor":"x","actor":null}'])
def test_other_names_are_payload_only(body: bytes) -> None:
    assert one(body)[0].fields == EventFields()


def test_an_escaped_name_is_recognised() -> None:
    assert one(b'{"\\u0061ctor":"ada"}')[0].fields.actor == "ada"


TWICE = [
    '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}',
    '{"n":{"a":1,"a":2}}',
    '{"n":[{"b":[{"a":1,"a":1}]}]}',
    '{"n":{"a":1.50,"a":1e999}}',
    '{"":0,"":0}',
]


@pytest.mark.parametrize("text", TWICE)
@pytest.mark.parametrize("white", ["", " ", "\n\t"])
def test_a_duplicate_name_is_refused_at_every_depth_and_in_every_spelling(
    text: str, white: str
) -> None:
    body = text.replace(":", f":{white}").replace(",", f",{white}").encode()
    for parse, wrapped in ((one, body), (array, b"[" + body + b"]")):
        assert "appears twice" in str(refused(parse, wrapped))


@pytest.mark.parametrize(
    "body", [b'{"actor":"a","actor":"b"}', b'{"\\u0061ctor":"a", "actor":"b"}']
)
def test_a_duplicate_field_is_named(body: bytes) -> None:
    error = refused(array, b'[{"actor":"x"},' + body + b"]")
    assert (error.index, error.field) == (1, "actor")


@given(objects, st.sampled_from(["a", "actor", 'q"\\', "é"]), spellings, st.integers(0, 3))
def test_duplicates_found_by_the_standard_library_are_refused(
    value: dict[str, Any], name: str, style: dict[str, Any], depth: int
) -> None:
    value = {key: inner for key, inner in value.items() if key != name}
    inner = json.dumps({name: "x", **value, "last": 0}, **style)
    twice = inner.rstrip("}\n ") + f",{json.dumps(name)}: 1.0}}"
    for level in range(depth):
        twice = f'{{"n":{twice}}}' if level % 2 else f'{{"n":[{twice}]}}'
    assert "appears twice" in str(refused(one, twice.encode())) or name == "actor"


PACKED_TWICE = [
    b"\x82\xa1a\x01\xa1a\x02",
    b"\x82\xa1a\x01\xd9\x01a\x02",  # the same name as str 8
    b"\xde\x00\x02\xa1a\x01\xa1a\x02",
    b"\xdf\x00\x00\x00\x02\xa1a\x01\xa1a\x02",
    b"\x81\xa1n\x82\xa1b\x01\xa1b\x02",
    b"\x81\xa1n\x91\xdc\x00\x01\x82\xa1b\x01\xa1b\x02",
]


@pytest.mark.parametrize("packed", PACKED_TWICE)
def test_a_duplicate_name_is_refused_in_messagepack_too(packed: bytes) -> None:
    error = refused(msgpack, b"\x92\x80" + packed)
    assert "appears twice" in str(error)
    assert error.index == 1


@pytest.mark.parametrize(
    "packed",
    [
        b"\x81\xa1a\xa1\xff",
        b"\x81\xa1a\x91\xa1\xff",
        b"\x81\xa1\xff\x01",
        b"\x81\xa1n\x81\xa1\xff\x01",
    ],
)
def test_text_in_messagepack_is_utf_8(packed: bytes) -> None:
    assert refused(msgpack, b"\x91" + packed).index == 0


@pytest.mark.parametrize(
    "packed", [b"\x81\x01\x02", b"\x81\xa1n\x81\x01\x02", b"\x81\xa1n\x81\x90\x02"]
)
def test_names_in_messagepack_are_text(packed: bytes) -> None:
    assert refused(msgpack, b"\x91" + packed).index == 0


def test_messagepack_may_hold_what_json_has_no_form_for() -> None:
    value = {"raw": b"\x00\xff", "at": msgspec.msgpack.Ext(5, b"x"), "deep": [{"raw": b"\xfe"}]}
    packed = msgspec.msgpack.encode(value)
    float_32 = b"\x81\xa1f\xca\x3f\x80\x00\x00"
    assert [e.payload for e in msgpack(b"\x92" + packed + float_32)] == [packed, float_32]


def nested_json(depth: int, white: bytes) -> bytes:
    return b'{"a":' + white + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def nested_msgpack(depth: int) -> bytes:
    return b"\x91\x81\xa1a" + b"\x91" * (depth - 2) + b"\x90"


@pytest.mark.parametrize("white", [b"", b" "])
def test_nesting_has_one_bound_in_every_spelling(white: bytes) -> None:
    assert one(nested_json(MAX_DEPTH, white))
    for depth in (MAX_DEPTH + 1, 900, 40_000):
        assert "too deeply" in str(refused(one, nested_json(depth, white)))
        assert "too deeply" in str(refused(array, b"[" + nested_json(depth, white) + b"]"))
    assert msgpack(nested_msgpack(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 900, 40_000):
        assert "too deeply" in str(refused(msgpack, nested_msgpack(depth)))


def test_brackets_side_by_side_or_in_text_are_no_depth() -> None:
    flat = {"list": [{"a": []}] * 500, "text": '[{"\\' * 500}
    assert one(json.dumps(flat).encode())


@pytest.mark.parametrize(
    "value",
    [b"9" * 5000, b"-" + b"9" * 5000, b"1e999", b"-1e-999", b"0." + b"1" * 5000, b"1E+400"],
)
@pytest.mark.parametrize("form", [b'{"n":%s}', b'{"n": %s}', b'{"n":{"m":[%s]}}'])
def test_huge_numbers_are_kept_as_sent(value: bytes, form: bytes) -> None:
    body = form % value
    assert one(body)[0].payload == body


MALFORMED = [
    b"",
    b" \n",
    b"\x00",
    b'{"a":"\x00"}',
    b"\xef\xbb\xbf{}",
    b"null",
    b"1",
    b'"text"',
    b"{",
    b'{"a"',
    b'{"a":1',
    b'{"a":1,}',
    b"{}{}",
    b"{'a':1}",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":01}',
    b'{"a":1.}',
    b'{"a":"\\q"}',
    b'{"a":"\\ud800"}',
    b'{"\\udc00":1}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b"\x0b{}",
    "{}".encode("utf-16"),
    b"{/**/}",
]


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_json_is_refused(body: bytes) -> None:
    for parse in (one, array, ndjson):
        refused(parse, body)
    refused(array, b"[{}," + body + b"]")
    error = refused(ndjson, b"{}\n" + body) if body.strip() else None
    assert error is None or error.index in {1, None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        b"\x91",
        b"\x91\x01",
        b"\x91\x81\xa1a",
        b"\x91\x80\x00",
        b"\x91\x81\xa1a\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xdf\xff\xff\xff\xff",
        b"\x91\x81\xa1a\xdb\xff\xff\xff\xff",
        b"\xdc",
        b"\xdd\x00\x00",
        b"{}",
        b"[]",
    ],
)
def test_malformed_messagepack_is_refused(body: bytes) -> None:
    refused(msgpack, body)


@pytest.mark.parametrize(
    "body", [b"\xdd\x01\x00\x00", b"\xdd\xff\xff\xff\xff", b"\xdd\x00\x01\x00\x00" + b"\x80" * 99]
)
def test_an_array_that_ends_early_is_malformed_not_too_large(body: bytes) -> None:
    with pytest.raises(InvalidEvent, match="ends early") as refusal:
        event.parse_msgpack(body, **LIMITS)
    assert not isinstance(refusal.value, PayloadTooLarge)


@pytest.mark.parametrize("parse", [one, array, ndjson, msgpack])
@given(body=st.binary(max_size=200) | st.text('{}[]",:\\u0ad1e+- ntf').map(str.encode))
def test_parsers_raise_only_their_own_errors(parse: Parser, body: bytes) -> None:
    def read() -> None:
        if parse in {one, array}:
            event.parse_json(body, **LIMITS)
        else:
            parse(body)

    raises_only(QuireError, read)


@given(st.data())
def test_a_damaged_body_raises_only_the_parsers_errors(data: st.DataObject) -> None:
    packed = data.draw(st.booleans())
    whole = (
        msgspec.msgpack.encode([FIELDS, {"a": [1.5, {"b": None}]}])
        if packed
        else b'[{"actor":"\\u00e9","n":[1e5,{"m":""}]}]'
    )
    place = data.draw(st.integers(0, len(whole) - 1))
    body = whole[:place] + data.draw(st.binary(max_size=3)) + whole[place + 1 :]
    raises_only(QuireError, lambda: msgpack(body) if packed else event.parse_json(body, **LIMITS))


@pytest.mark.parametrize("name", event.FIELD_NAMES)
@pytest.mark.parametrize("value", [1, True, [], {}, 1.5])
def test_a_field_of_another_type_names_index_and_field(name: str, value: object) -> None:
    for parse, body in (
        (array, json.dumps([{}, {name: value}]).encode()),
        (ndjson, b"{}\n" + json.dumps({name: value}).encode()),
        (msgpack, msgspec.msgpack.encode([{}, {name: value}])),
    ):
        error = refused(parse, body)
        assert (error.index, error.field) == (1, name)
    assert refused(one, json.dumps({name: value}).encode()).field == name


@pytest.mark.parametrize("name", event.FIELD_NAMES)
@pytest.mark.parametrize("text", ["a\x00", "\n", "\x7f", "\x85", "x" * (event.MAX_FIELD_CHARS + 1)])
def test_a_field_with_text_that_does_not_fit_names_index_and_field(name: str, text: str) -> None:
    error = refused(array, json.dumps([{}, {name: text}]).encode())
    assert (error.index, error.field) == (1, name)


def test_fields_at_their_bound_fit() -> None:
    longest = {
        name: "😀" * event.MAX_FIELD_CHARS for name in event.FIELD_NAMES if name != "timestamp"
    }
    assert one(json.dumps(longest).encode())[0].fields.actor == "😀" * event.MAX_FIELD_CHARS


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00.123456789z",
        "2026-01-31 12:00:00+02:00",
        "2026-01-31T12:00:00-0530",
        "2026-01-31T12:00",
        "2026-01-31",
        "2016-12-31T23:59:60Z",
        "2024-02-29T00:00:00Z",
        "0001-01-01T00:00:00Z",
    ],
)
def test_times_of_rfc_3339_are_kept_as_sent(text: str) -> None:
    assert one(json.dumps({"timestamp": text}).encode())[0].fields.timestamp == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-02-30",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31€12:00:00Z",
        "2026-01-31T12:00:00Z ",
        "2026-01-31T12:00:00+24:00",
        "2026-W01-1",
        "20260131",
        "2026-01-31T",
        "2026-01-31Z",
        "２０２６-01-31",
        "0000-01-01",
        "1767268800",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    error = refused(array, json.dumps([{"timestamp": text}]).encode())
    assert (error.index, error.field) == (0, "timestamp")


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (array, b"[" + b",".join([b"{}"] * 101) + b"]"),
        (ndjson, b"{}\n" * 101),
        (msgpack, b"\xdc\x00\x65" + b"\x80" * 101),
        (array, b"[" + b"{}," * 60_000 + b"{}]"),
        (ndjson, b"{}\n" * 60_000),
        (msgpack, b"\xdd\x00\x01\x00\x00" + b"\x80" * 65_536),
    ],
)
def test_too_many_events_are_too_large(parse: Parser, body: bytes) -> None:
    error = refused(parse, body)
    assert isinstance(error, PayloadTooLarge)
    assert "at most 100" in str(error)


def test_a_body_full_of_commas_is_still_counted_right() -> None:
    numbers = b'{"n":[' + b",".join([b"1"] * 40_000) + b"]}"
    assert len(array(b"[" + numbers + b"," + numbers + b"]")) == 2
    error = refused(array, b"[{}," + b",".join([b"1"] * 40_000) + b"]")
    assert error.index == 1
    assert not isinstance(error, PayloadTooLarge)
    assert "not valid JSON" in str(refused(array, b"[" + numbers + b"," + numbers + b",}"))


def test_no_huge_number_hides_what_must_be_counted() -> None:
    huge = b'{"n":[' + b",".join([b"1e999"] * 10_000) + b"]}"
    assert len(array(b"[" + huge + b"]")) == 1
    assert isinstance(refused(array, b"[" + huge + b",{}" * 100 + b"]"), PayloadTooLarge)


@pytest.mark.parametrize("parse", [array, ndjson, msgpack])
def test_a_request_without_events_is_refused(parse: Parser) -> None:
    bodies: dict[Parser, bytes] = {array: b"[]", ndjson: b"\n \r\n", msgpack: b"\x90"}
    assert "no event" in str(refused(parse, bodies[parse]))


def test_a_payload_has_a_bound() -> None:
    exact = b'{"a":"%s"}' % (b"x" * (LIMITS["max_payload"] - 8))
    assert one(exact)[0].payload == exact
    error = refused(array, b"[{}," + exact[:-2] + b'x"}]')
    assert isinstance(error, PayloadTooLarge)
    assert error.index == 1


def test_the_first_byte_distinguishes_json_from_messagepack() -> None:
    assert is_json_payload(b' \r\n{"a":1}')
    assert not is_json_payload(b"\x80")
    assert not is_json_payload(b"\xde\x00\x00")


def test_real_webhooks_are_events() -> None:
    payloads = [
        json.loads(line)["payload"] for line in gzip.decompress(WEBHOOKS.read_bytes()).splitlines()
    ]
    for body in (json.dumps(payload).encode() for payload in payloads):
        assert one(body)[0].payload == body


def test_the_servers_own_event_types_are_not_for_callers() -> None:
    with pytest.raises(InvalidEvent, match=r"quire\.") as refused:
        event.parse_json(b'{"event_type":"quire.org_thawed"}', max_events=1, max_payload=1000)
    assert refused.value.field == "event_type"
