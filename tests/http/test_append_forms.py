"""Appending over HTTP: every form of body is kept byte for byte; bad bodies are refused."""

from __future__ import annotations

import base64
import gzip
import json
from itertools import pairwise
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st

from tests.support.posting import JSON, MSGPACK, NDJSON, append, head_seq, problem_of
from tests.support.raw_http import Line, head
from tests.support.serving import PeerAnswer, Server

# Bytes that decoding and encoding again would change.
EXACT = [
    b'{}',
    b'{"event_type":"a"}',
    b'{ "event_type" :\t"a" ,\n "list":[1, 2 ,3]\r\n}',
    '{"name":"Żółć 漢字 🍃 e\u0301","actor":"Zoë"}'.encode(),
    b'{"name":"\\u017b\\/\\u0000\\ud83c\\udf43","tab":"\\t"}',
    b'{"big":123456789012345678901234567890,"small":-0,"zero":0.000,"e":1E+5}',
    b'{"huge":1e999,"tiny":1e-999,"long":0.1000000000000000055511151231257827}',
    b'{"a":{"b":{"c":[[[]],{},null,true,false]}},"":"empty name"}',
    b'{"z":1,"a":2,"Z":3,"event_type":null}',
    b'{"record_id":"rec_no","seq":7,"payload":{"erased":true}}',
]  # fmt: skip


def payload_of(server: Server, record: str) -> PeerAnswer:
    path = f"/v1/orgs/{server.org}/entries/{record}/payload"
    return server.request("GET", path, key=server.admin_key)


@pytest.fixture(params=["sealed", "plain"], scope="module")
def server(request: pytest.FixtureRequest, shared_server: Server) -> Server:
    """The shared server with a sealed org, and then with a plain one."""
    shared_server.org, shared_server.admin_key = shared_server.create_org(request.param)
    return shared_server


@pytest.mark.parametrize("body", EXACT)
def test_one_object_is_kept_byte_for_byte(server: Server, body: bytes) -> None:
    answer = append(server, b" \n" + body + b"\n")
    assert answer.status == 201, answer.body
    record = answer.json()["record_id"]
    kept = payload_of(server, record)
    assert (kept.body, kept.headers["content-type"]) == (b" \n" + body + b"\n", JSON)
    listed = server.request("GET", f"/v1/orgs/{server.org}/entries?limit=1", key=server.admin_key)
    assert b'"payload": \n' + body + b"\n," in listed.body
    assert listed.json()["entries"][0]["record_id"] == record


def test_an_array_keeps_each_event_as_it_was_sent(server: Server) -> None:
    answer = append(server, b"[ " + b" ,\n".join(EXACT) + b" ]")
    assert answer.status == 201, answer.body
    assert [payload_of(server, r["record_id"]).body for r in answer.json()["entries"]] == EXACT


def test_ndjson_keeps_each_line(server: Server) -> None:
    lines = [body for body in EXACT if b"\n" not in body]
    answer = append(server, b"\r\n\n".join(lines) + b"\n\n", NDJSON)
    assert answer.status == 201, answer.body
    assert [payload_of(server, r["record_id"]).body for r in answer.json()["entries"]] == lines


def test_messagepack_keeps_each_map(server: Server) -> None:
    events: list[Any] = [
        {"event_type": "a", "bytes": b"\x00\xff", "n": 2**63, "nested": {"x": [1.5, None]}},
        {"actor": "Zoë", "list": list(range(20))},
        {},
    ]
    answer = append(server, msgspec.msgpack.encode(events), MSGPACK)
    assert answer.status == 201, answer.body
    records = [receipt["record_id"] for receipt in answer.json()["entries"]]
    for event, record in zip(events, records, strict=True):
        kept = payload_of(server, record)
        assert (kept.body, kept.headers["content-type"]) == (
            msgspec.msgpack.encode(event),
            MSGPACK,
        )
    shown = server.request(
        "GET", f"/v1/orgs/{server.org}/entries/{records[1]}", key=server.admin_key
    ).json()
    assert (shown["actor"], shown["payload"], shown["payload_format"]) == ("Zoë", None, "msgpack")
    assert base64.b64decode(shown["payload_base64"]) == msgspec.msgpack.encode(events[1])


def test_a_batch_is_linked_and_answered_with_its_head(server: Server) -> None:
    before = head_seq(server)
    answer = append(server, [{"n": number} for number in range(5)]).json()
    receipts = answer["entries"]
    assert [receipt["seq"] for receipt in receipts] == list(range(before + 1, before + 6))
    assert all(b["previous_hash"] == a["entry_hash"] for a, b in pairwise(receipts))
    assert answer["head"] == {
        name: receipts[-1][name] for name in ("seq", "entry_hash", "anchored_at")
    }


@pytest.mark.parametrize("prefer", ["return=minimal", "respond-async, return=minimal"])
def test_a_minimal_answer_has_the_bounds_only(server: Server, prefer: str) -> None:
    before = head_seq(server)
    answer = append(server, [{}, {}, {}], prefer=prefer).json()
    assert answer.keys() == {"first_seq", "last_seq", "count", "head"}
    assert (answer["first_seq"], answer["last_seq"], answer["count"]) == (before + 1, before + 3, 3)
    single = append(server, {}, prefer=prefer).json()
    assert "record_id" in single


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"actor": 5}, "actor"),
        ({"event_type": ["x"]}, "event_type"),
        ({"outcome": "x" * 1025}, "outcome"),
        ({"subject": "line\nbreak"}, "subject"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"unique_key": {}}, "unique_key"),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, NDJSON, MSGPACK])
def test_a_bad_event_refuses_its_batch_and_is_named(
    server: Server, content_type: str, bad: dict[str, Any], field: str
) -> None:
    before = head_seq(server)
    events: list[dict[str, Any]] = [{"n": 0}, {"n": 1}, bad, {"n": 3}]
    body = {
        JSON: msgspec.json.encode(events),
        NDJSON: b"\n".join(map(msgspec.json.encode, events)),
        MSGPACK: msgspec.msgpack.encode(events),
    }[content_type]
    answer = append(server, body, content_type)
    assert (answer.status, problem_of(answer)) == (400, "invalid-event")
    assert (answer.json()["index"], answer.json()["field"]) == (2, field)
    assert head_seq(server) == before


@pytest.mark.parametrize("body", [
    b"", b" ", b"\n", b"null", b"1", b'"text"', b"true", b"[]", b"[ ]", b"[1]", b"[[]]", b"[{},null]",
    b"{", b'{"a":1', b'{"a":1}}', b'{"a":1}{"b":2}', b"[{}", b"[{},]", b"[{}]x", b"{'a':1}",
    b'{"a":01}', b'{"a":.5}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":+1}', b'{"a":"\x01"}',
    b'{"a":"\n"}', b'{"a":"\\x"}', b'{"a":"\\ud800"}', b'{"a":"\\ud800\\u0041"}', b'{"a":tru}',
    b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b'[{"x":[{"y":1,"\\u0079":2}]}]',
    b"\xef\xbb\xbf{}", b"{}\x00", b"\x00{}", b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xf0\x9f"}', '{"a":1}'.encode("utf-16"), b'{"a":' * 129 + b"1" + b"}" * 129,
    b'{"a":' + b"[" * 100_000, b"[" * 100_000, b"[" * 1_000_000 + b"]" * 1_000_000,
    b'{"actor":"\\u0000"}', b'{"timestamp":""}', b'{"timestamp":"2026-13-01T00:00:00Z"}',
])  # fmt: skip
def test_a_bad_json_body_is_refused_whole(server: Server, body: bytes) -> None:
    before = head_seq(server)
    answer = append(server, body)
    assert (answer.status, problem_of(answer)) == (400, "invalid-event"), answer.body
    assert head_seq(server) == before


@pytest.mark.parametrize("body", [
    b"", b"\n \r\n", b"null", b"{}\n[]", b"{}\n{", b"[{},{}]", b'{"a":\n1}', b"{}\xff\n",
    b"{} {}", b'{"a":1,"a":2}\n', b"\x1e{}",
])  # fmt: skip
def test_bad_ndjson_is_refused(server: Server, body: bytes) -> None:
    answer = append(server, body, NDJSON)
    assert (answer.status, problem_of(answer)) == (400, "invalid-event"), answer.body


@pytest.mark.parametrize("body", [
    b"", b"\x90", b"\xc0", b"\x80", b"\x91\xc0", b"\x91\x81\x01\x01", b"\x91\x82\xa1a\x01\xa1a\x02",
    b"\xdd\x00\x00\x27\x10", b"\xdd\x00\x00\x00\x02\x80", b"\x91\x80\x80", b"\x91\x81\xa1a\xa1\xff",
    b"\x91\xc1", b"\x91" * 100_000, b"\x91\x81\xa1a" + b"\x91" * 200 + b"\xc0",
])  # fmt: skip
def test_bad_messagepack_is_refused(server: Server, body: bytes) -> None:
    answer = append(server, body, MSGPACK)
    assert (answer.status, problem_of(answer)) == (400, "invalid-event"), answer.body


@pytest.mark.parametrize(("body", "content_type", "said"), [
    (b'{"a":1}\n{"b":2}', JSON, "send it as application/x-ndjson"), (b'{"a":1}\r\n\n{"b":{}}\n', JSON, "application/x-ndjson"),
    (b'[{"a":1},\n{"b":2}]', NDJSON, "send it as application/json"), (b'[{"a":1}]', MSGPACK, "send it as application/json"),
    (b'{"a":1}', MSGPACK, "send it as application/json"), (gzip.compress(b"{}", mtime=0), JSON, "compressed with gzip"),
    (gzip.compress(b"{}", mtime=0), NDJSON, "compressed with gzip"),
])  # fmt: skip
def test_a_body_of_another_form_is_refused_with_its_form(
    server: Server, body: bytes, content_type: str, said: str
) -> None:
    answer = append(server, body, content_type)
    assert (answer.status, problem_of(answer)) == (400, "invalid-event")
    assert said in answer.json()["detail"]


def test_nesting_within_the_bound_is_kept(server: Server) -> None:
    body = b'{"a":' * 128 + b"1" + b"}" * 128
    record = append(server, body).json()["record_id"]
    assert payload_of(server, record).body == body
    listed = server.request("GET", f"/v1/orgs/{server.org}/entries?limit=1", key=server.admin_key)
    assert json.loads(listed.body)["entries"][0]["record_id"] == record


@pytest.mark.parametrize(
    "content_type", ["application/JSON", "application/json; charset=utf-8", " application/json "]
)
def test_json_is_known_by_its_media_type(server: Server, content_type: str) -> None:
    assert append(server, b"{}", content_type).status == 201


def test_without_a_content_type_json_is_assumed(server: Server) -> None:
    path = f"/v1/orgs/{server.org}/entries"
    with Line(server) as line:
        line.send(
            head("POST", path, server.admin_key, content_length="2", connection="close") + b"{}"
        )
        assert line.answer().status == 201


@pytest.mark.parametrize("content_type", [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/xml", "application/jsonl", "application/vnd.msgpack", "x" * 500, "*/*",
])  # fmt: skip
def test_other_content_types_are_refused(server: Server, content_type: str) -> None:
    answer = append(server, b"{}", content_type)
    assert (answer.status, problem_of(answer)) == (415, "unsupported-media-type")
    assert JSON in answer.json()["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
def test_encoded_bodies_are_refused_as_such(server: Server, encoding: str) -> None:
    answer = append(server, gzip.compress(b"{}", mtime=0), content_encoding=encoding)
    assert (answer.status, problem_of(answer)) == (415, "unsupported-media-type")
    assert encoding in answer.json()["detail"]
    assert append(server, b"{}", content_encoding="identity").status == 201


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
almost_json = st.builds(
    lambda value, cut, junk: json.dumps(value).encode()[: cut or None] + junk,
    json_values,
    st.integers(0, 60),
    st.binary(max_size=3),
)


@hypothesis.settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    body=st.binary(max_size=200)
    | almost_json
    | st.builds(
        msgspec.msgpack.encode,
        st.lists(st.dictionaries(st.text(max_size=9), st.integers(0, 2**63))),
    ),
    content_type=st.sampled_from([JSON, NDJSON, MSGPACK]),
)
def test_any_body_is_accepted_whole_or_refused_as_a_problem(
    server: Server, body: bytes, content_type: str
) -> None:
    before = head_seq(server)
    answer = append(server, body, content_type)
    if answer.status == 201:
        receipts = answer.json().get("entries", [answer.json()])
        assert head_seq(server) == before + len(receipts)
        kept = [payload_of(server, receipt["record_id"]).body for receipt in receipts]
        assert all(payload in body for payload in kept)
    else:
        assert (answer.status, problem_of(answer)) == (400, "invalid-event")
        assert head_seq(server) == before


@pytest.mark.parametrize(
    "spelling", ["/v1/orgs/{}/entries/", "//v1/orgs/{}//entries", "/v1/%6frgs/{}/entries"]
)
def test_an_append_has_one_path(server: Server, spelling: str) -> None:
    before = head_seq(server)
    for key in (server.admin_key, None):
        answer = server.request("POST", spelling.format(server.org), {}, key=key)
        assert (answer.status, problem_of(answer)) == (404, "not-found")
    assert head_seq(server) == before
