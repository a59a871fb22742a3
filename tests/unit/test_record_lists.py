"""Long lists of record ids are taken out of a request and checked; the rest stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.entry import RecordId, record_id
from ledger.errors import InvalidEvent
from ledger.intake import IntakeLimits, ParserPool
from ledger.intake.bodies import BodyForm
from ledger.intake.record_lists import LEFT, MAX_IDS, take_out

PLACES = [RecordId(7, 1_700_000_000_000_000 + n, n) for n in range(LEFT + 500)]
IDS = [record_id(*place) for place in PLACES]


def sent(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_lists_are_taken_out_sorted_and_the_rest_is_kept() -> None:
    mixed = [*IDS[::-1], *IDS]
    rest, lists = take_out(
        sent(
            {"from_seq": 2**40, "record_ids": mixed, "disclose": {"records": IDS, "fields": ["x"]}}
        )
    )
    kept = {"from_seq": 2**40, "record_ids": mixed[:1]}
    assert json.loads(rest) == kept | {"disclose": {"records": IDS[:1], "fields": ["x"]}}
    assert {name: found.texts for name, found in lists.items()} == {
        "record_ids": mixed,
        "records": IDS,
    }
    assert [found.places for found in lists.values()] == [PLACES, PLACES]


def test_short_lists_and_other_members_stay() -> None:
    document = {"record_ids": IDS[:LEFT], "disclose": {"records": "all"}, "filter": IDS}
    rest, lists = take_out(sent(document))
    assert (json.loads(rest), lists) == (document, {})


@pytest.mark.parametrize("fault", [1, None, "x" * 65, ["x"], {"a": 1}])
def test_a_value_at_fault_is_left_for_those_who_check_the_rest(fault: Any) -> None:
    rest, lists = take_out(sent({"record_ids": [*IDS, fault, 2]}))
    assert json.loads(rest) == {"record_ids": [fault]}
    assert lists["record_ids"].places is None


def test_an_id_that_names_no_entry_leaves_no_places() -> None:
    rest, lists = take_out(sent({"record_ids": [*IDS, "rec_x"]}))
    assert json.loads(rest) == {"record_ids": IDS[:1]}
    assert lists["record_ids"].places is None


@pytest.mark.parametrize(("body", "message"), [
    (b"[" * 100_000, "the body is not JSON"), (b'{"record_ids":[', "the body is not JSON"),
    (b"\xff" * 10, "not UTF-8"), (b'{"a":1,"a":2}', "twice"),
    (b'{"disclose":{"records":[],"records":[]}}', "twice"),
    (sent({"record_ids": ["a"] * (MAX_IDS + 1)}), f"at most {MAX_IDS} elements"),
])  # fmt: skip
def test_other_bodies_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidEvent, match=message):
        take_out(body)


async def test_the_other_process_answers_the_same() -> None:
    pool = ParserPool()
    try:
        body = sent({"record_ids": [*IDS, *IDS[:7]], "disclose": {"records": [*IDS, "rec_x"]}})
        assert await pool.take_out(1, body) == take_out(body)
        with pytest.raises(InvalidEvent, match="not JSON"):
            await pool.take_out(1, b"{")
        events, single = await pool.parse(1, BodyForm.JSON, b'{"a":1}', IntakeLimits(1, 10))
        assert (len(events), single) == (1, True)
    finally:
        await pool.close()
