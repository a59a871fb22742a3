"""NDJSON lines of a stream become events and batches."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.cli.base import ndjson
from server.cli.base.ndjson import BATCH_EVENTS, BadLine, EventLine, EventLines, batches


def lines_of(content: bytes) -> list[EventLine | BadLine]:
    return list(EventLines(io.BytesIO(content)))


def test_lines_are_numbered_from_one_and_blank_ones_count() -> None:
    found = lines_of(b'{"a":1}\n\n \t\r\n{"b": 2}\r\n{"last": null}')
    assert found == [
        EventLine(1, b'{"a":1}'),
        EventLine(4, b'{"b": 2}'),
        EventLine(5, b'{"last": null}'),
    ]


@pytest.mark.parametrize(
    "bad", [b"nope", b"[]", b'"text"', b"1", b"{", b'{"a":1}{"b":2}', b'{"a":"\xff"}', b"{}\x00"]
)
def test_a_bad_line_has_its_number_and_a_reason(bad: bytes) -> None:
    before, found, after = lines_of(b"{}\n" + bad + b"\n{}\n")
    assert isinstance(found, BadLine)
    assert found.line == 2
    assert found.reason
    assert (before, after) == (EventLine(1, b"{}"), EventLine(3, b"{}"))


def test_a_line_over_the_limit_is_skipped_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_REQUEST_BYTES", 16)
    monkeypatch.setattr(ndjson, "_SKIP_BYTES", 7)
    fits = b'{"a":"12345678"}'
    for length in range(17, 60):
        content = b"{}\n" + b"x" * length + b"\n{}"
        stream = EventLines(io.BytesIO(content))
        assert list(stream) == [
            EventLine(1, b"{}"),
            BadLine(2, "longer than 16 bytes"),
            EventLine(3, b"{}"),
        ]
        assert stream.bytes_read == len(content)
    assert lines_of(fits[:-3] + b'"}\n') == [EventLine(1, fits[:-3] + b'"}')]


@given(st.lists(st.one_of(st.integers(1, 400), st.none()), max_size=60))
def test_batches_keep_order_and_limits(sizes: list[int | None]) -> None:
    lines = [
        BadLine(number, "bad") if size is None else EventLine(number, b"x" * size)
        for number, size in enumerate(sizes, 1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndjson, "MAX_REQUEST_BYTES", 1000)
        patch.setattr(ndjson, "BATCH_EVENTS", 5)
        found = list(batches(lines))
    flat: list[EventLine | BadLine] = []
    for part in found:
        flat.extend([part] if isinstance(part, BadLine) else part)
        if not isinstance(part, BadLine):
            assert 1 <= len(part) <= 5
            assert sum(len(line.event) + 1 for line in part) + 2 <= 1000
    assert flat == lines


def test_a_full_batch_is_a_thousand_events() -> None:
    lines = [EventLine(number, b"{}") for number in range(1, 2 * BATCH_EVENTS + 2)]
    assert [len(part) for part in batches(lines)] == [1000, 1000, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"), ('{"a":1}'.encode("utf-16"), "UTF-16"), (b'{\n"a":1\n}', "ends before"),
        (b"\x1f\x8b\x08\x00", "gzip"), (b'{"a":"\xff"}', "byte 6"),
    ],
)  # fmt: skip
def test_the_reason_says_what_is_wrong_with_a_file(content: bytes, said: str) -> None:
    first = lines_of(content)[0]
    assert isinstance(first, BadLine)
    assert said in first.reason
