"""How the client encodes events."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.client.errors import EventEncodingError
from ledger.client.events import array, encode, requests


def test_bytes_are_sent_as_they_are() -> None:
    event = b' {"b": 1.0,\n "a": "\\u00e9", "a": 2} '
    assert encode(event) == event


@pytest.mark.parametrize(
    "event",
    [
        b"", b"[]", b"null", b'{"a":1},{"b":2}', b'{"a":1', b'{"a":1}]', b'{"a":"\x00"}',
        b'{"a":' * 100_000, {"a": object()}, {"a": "\ud800"},
    ],
)  # fmt: skip
def test_a_value_that_is_not_a_json_object_is_refused_by_the_client(event: Any) -> None:
    with pytest.raises(EventEncodingError, match="event 3 can't be sent"):
        encode(event, 3)


def test_a_recursive_structure_is_refused_by_the_client() -> None:
    event: dict[str, Any] = {}
    event["self"] = event
    with pytest.raises(EventEncodingError):
        encode(event)


EVENTS = st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=20), max_size=3))


@given(EVENTS, st.integers(1, 5), st.integers(1, 100))
def test_requests_hold_all_events_in_order_within_the_limits(
    events: list[dict[str, str]], max_events: int, max_bytes: int
) -> None:
    groups = list(requests(events, max_events, max_bytes))
    bodies = [array(group) for group in groups]
    assert [event for body in bodies for event in msgspec.json.decode(body)] == events
    for group, body in zip(groups, bodies, strict=True):
        assert 1 <= len(group) <= max_events
        assert len(body) <= max_bytes or len(group) == 1
    assert groups == list(requests(iter(events), max_events, max_bytes))


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"), (b"{", "ends before it is complete"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair"), ({"a": "\ud800"}, "half of a surrogate pair"),
        ("{}".encode("utf-16"), "UTF-16"), (b'{"a":1}{"b":2}', "extra data"), (b"\x1f\x8b\x08", "gzip"),
        (b"{'a':1}", "double quotes"), (b"[]", "an object"),
    ],
)  # fmt: skip
def test_the_client_says_what_is_wrong_with_an_event(event: Any, said: str) -> None:
    with pytest.raises(EventEncodingError, match=said) as caught:
        encode(event)
    assert not [
        word for word in ("truncated", "codec", "byte 0)", "b'") if word in str(caught.value)
    ]
