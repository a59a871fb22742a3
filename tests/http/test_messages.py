"""Control routes answer any body and any parameter with a clear refusal, never with a 500."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.support.offices import Office, office
from tests.support.serving import PeerAnswer, Server

INTERNALS = ("`", "regex", "codec", "Expected", "b'", "truncated", "Traceback", "NoneType")


@pytest.fixture(scope="module")
def here(shared_server: Server) -> Office:
    """A signed trail."""
    return office(shared_server, count=3)


def refused(answer: PeerAnswer, status: int = 400) -> str:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    detail = str(answer.json()["detail"])
    assert not [word for word in INTERNALS if word in detail], detail
    return detail


def control_routes(here: Office) -> list[tuple[str, str, str]]:
    org = f"/v1/orgs/{here.org}"
    return [
        ("POST", "/v1/orgs", here.server.platform_key),
        ("PATCH", org, here.key),
        ("POST", f"{org}/keys", here.key),
        ("POST", f"{org}/thaw", here.key),
        ("POST", f"{org}/bundles", here.key),
        ("POST", f"{org}/verifications", here.key),
    ]


BODIES = [
    (b'{"x":"\\ud800"}', "surrogate"), (b"\xef\xbb\xbf{}", "byte order mark"), ("{}".encode("utf-16"), "UTF-16"),
    ('{"a":1}'.encode("utf-16-le"), "UTF-16"), (b'{"a":"\xff"}', "UTF-8"), (b"{", "ends before"), (b'{"name":"a"', "ends before"),
    (b"{'name':1}", "double quotes"), (b'{"name":NaN}', "NaN"), (b"[]", "must be an object"), (b"null", "must be an object"),
    (b'"x"', "must be an object"), (b'{"nothing_of_ours":1}', "nothing_of_ours"), (b"[" * 20_000, "must be an object"),
    (b'{"x":' * 5_000, '"x" is not a member|nests too deeply'), (b"\x00", "NUL"), (b"\x81\xa1a\x01", "UTF-8"), (b"a=b", "not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("route", range(6))
def test_a_bad_body_is_refused_with_its_fault(
    here: Office, route: int, body: bytes, words: str
) -> None:
    method, path, key = control_routes(here)[route]
    detail = refused(here.server.request(method, path, body, key=key))
    # The first fault is named: an unknown member, or bytes that can't be decoded.
    assert re.search(f"{words}|is missing|is not a member", detail)


def test_half_a_surrogate_pair_is_named_as_such(here: Office) -> None:
    path = f"/v1/orgs/{here.org}/thaw"
    answer = here.server.request("POST", path, b'{"reason":"\\ud800"}', key=here.key)
    assert "half of a surrogate pair" in refused(answer)


@pytest.mark.parametrize("route", range(6))
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, identity"])
def test_an_encoded_body_is_refused_with_the_accepted_coding(
    here: Office, route: int, coding: str
) -> None:
    method, path, key = control_routes(here)[route]
    answer = here.server.request(method, path, b"{}", key=key, headers={"content-encoding": coding})
    assert coding in refused(answer, 415)
    assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(("route", "body", "words"), [
    (0, {"slug": "A b"}, "lower-case letters, digits and hyphens"), (0, {"slug": "a\n"}, "slug must be 1 to 63"),
    (0, {"slug": "a" * 64}, "at most 63 characters"), (0, {"slug": 5}, "slug must be text, not a whole number"),
    (0, {}, "slug is missing"), (0, {"slug": "x", "privacy": "no"}, 'privacy must be "plain" or "sealed"'),
    (2, {"name": "x", "role": "god"}, 'role must be "admin" or "auditor" or "member" or "viewer"'), (2, {"name": "x"}, "role is missing"),
    (2, {"name": "", "role": "admin"}, "at least 1 character"), (1, {"log_public": "yes"}, "log_public must be true or false"),
    (4, {"from_seq": -1}, "from_seq must be at least 0"), (4, {"from_seq": 1.5}, "from_seq must be a whole number"),
    (4, {"filter": {"since": 5}}, "filter.since must be text"), (4, {"filter": {"acter": "x"}}, '"acter" is not a member of filter'),
    (4, {"from_seq": 0, "disclose": {"fields": ["name"]}}, 'disclose.fields[0] must be "actor" or "payload" or "subject"'),
    (4, {"from_seq": 2**70}, "from_seq"), (5, {"to_seq": 10**30}, "to_seq"), (5, {"to_seq": "1"}, "to_seq must be a whole number"),
    (4, {"filter": {"actor": "a\x00"}}, "actor has a control character"), (4, {"filter": {"until": "24:00"}}, "RFC 3339"),
])  # fmt: skip
def test_a_member_that_does_not_fit_is_named(
    here: Office, route: int, body: dict[str, Any], words: str
) -> None:
    method, path, key = control_routes(here)[route]
    assert words in refused(here.server.request(method, path, body, key=key))


@pytest.mark.parametrize(("route", "body"), [
    (0, b'{"slug":"twice-a","slug":"twice-b"}'), (1, b'{"name":"a","name":"b"}'), (1, b'{"name":"a","n\\u0061me":"a"}'),
    (2, b'{"name":"a","role":"viewer","role":"admin"}'), (3, b'{"reason":"a","reason":"b"}'),
    (4, b'{"from_seq":0,"from_seq":1}'), (4, b'{"filter":{"actor":"a","actor":"b"}}'), (5, b'{"from_seq":0,"from_seq":1}'),
])  # fmt: skip
def test_a_duplicate_member_is_refused(here: Office, route: int, body: bytes) -> None:
    method, path, key = control_routes(here)[route]
    assert "appears twice" in refused(here.server.request(method, path, body, key=key))


@pytest.mark.parametrize("query", [
    "limit=x", "limit=", "limit=%D9%A1", "limit=1_0", "limit=0x1", "limit=-1", "limit=0", "limit=1001",
    f"limit={'9' * 30}", "limit=NaN", "limit=null", "limit=true", "order=up", "order=DESC", "order=",
    f"actor={'x' * 1025}", "cursor=", "cursor=%C3%A9", "since=", "since=now", "nothing=1",
])  # fmt: skip
def test_a_parameter_that_does_not_fit_is_named(here: Office, query: str) -> None:
    path = f"/v1/orgs/{here.org}/entries?{query}"
    assert query.partition("=")[0] in refused(here.server.request("GET", path, key=here.key))


def test_a_misspelt_parameter_is_refused_on_every_route_that_has_one(here: Office) -> None:
    org = f"/v1/orgs/{here.org}"
    for path in (f"{org}/entries", f"{org}/checkpoints", f"{org}/consistency", "/v1/orgs",
                 f"{org}/entries/{here.records[0]}/proof", "/v1/log/anchors", "/v1/log/consistency"):  # fmt: skip
        for key in (here.key, here.server.platform_key):
            answer = here.server.request("GET", f"{path}?limt=1", key=key)
            if answer.status != 403:
                assert '"limt" is not a query parameter' in refused(answer), path
    assert here.server.request("GET", "/livez?x=1").status == 200


@pytest.mark.parametrize(
    "query",
    ["anchored=maybe", "anchored=", "anchored=2", "size=0", "size=-1", "size=x"],
)
def test_a_proof_s_parameters_have_types(here: Office, query: str) -> None:
    path = f"/v1/orgs/{here.org}/entries/{here.records[0]}/proof?{query}"
    assert query.partition("=")[0] in refused(here.server.request("GET", path, key=here.key))


@pytest.mark.parametrize("wait", ["nan", "inf", "-inf", "1e400", "-1", "61", "x", "", "true"])
@pytest.mark.parametrize("what", ["verifications", "archive"])
def test_a_wait_is_a_number_of_seconds(here: Office, what: str, wait: str) -> None:
    path = f"/v1/orgs/{here.org}/{what}?wait={wait}"
    assert "wait" in refused(here.server.request("POST", path, {}, key=here.key))


@pytest.mark.parametrize("key", ["", "x" * 256, "\xe9", "a\tb", "\x7f"])
def test_an_idempotency_key_is_printable_ascii(here: Office, key: str) -> None:
    path = f"/v1/orgs/{here.org}/entries"
    answer = here.server.request("POST", path, {}, key=here.key, headers={"idempotency-key": key})
    assert answer.status == 400
    if answer.json()["type"].endswith("/invalid-event"):  # else the HTTP parser refused it
        assert "Idempotency-Key" in refused(answer)


def test_the_choices_of_a_parameter_are_named(here: Office) -> None:
    answer = here.server.request("GET", f"/v1/orgs/{here.org}/entries?order=up", key=here.key)
    assert refused(answer) == 'order must be "asc" or "desc"'


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["slug", "name", "role", "from_seq", "to_seq", "filter", "actor", "since",
                         "disclose", "fields", "records", "record_ids", "reason", "x"]),
        inner, max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    route=st.integers(1, 5),
    body=st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()),
)
def test_any_body_is_answered_without_a_fault(here: Office, route: int, body: bytes) -> None:
    method, path, key = control_routes(here)[route]
    answer = here.server.request(method, path, body, key=key)
    if answer.status == 400:
        refused(answer)
    else:
        assert answer.status in {200, 201, 202, 404, 409, 429}, answer.body


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(
    name=st.sampled_from(["actor", "since", "until", "limit", "order", "cursor", "event_type"]),
    value=st.text(max_size=30)
    | st.from_regex(
        r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", fullmatch=True
    ),
)
def test_any_filter_is_answered_or_refused(here: Office, name: str, value: str) -> None:
    path = f"/v1/orgs/{here.org}/entries?{name}={quote(value, safe='', errors='surrogatepass')}"
    answer = here.server.request("GET", path, key=here.key)
    if answer.status != 200:
        assert name in refused(answer)
