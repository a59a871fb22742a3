"""Random changes of stored blocks, by one bit or by an owner who encodes them again: each is located.

The blocks are judged as the streams that the database would send. DAMAGES is a factor on the
number of changes; `make test-damage` raises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import pytest

from ledger.blocks.block import Block, cut, pack
from ledger.chain import EMPTY_HEAD, StoredEntry, extend, next_time_us
from ledger.core.verification.work.faults import Result
from ledger.storage.copy_out import HeadRow
from ledger.storage.entries.extent import NewestRow, _last_leaf
from tests.support.block_format import Row, decode
from tests.support.evidence_damage import SCALE
from tests.support.random_repackings import random_repacking
from tests.support.stored_bits import BitChange, changed_wire, random_bit
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft
from tests.verification.streams import SentRow, blame, judge_rows, sent

TRIES: Final = 50 * SCALE
"""Changes of each kind."""
AT_ONCE: Final = 50
COMMITS: Final = (1, 5, 100, 256, 1, 237)
Record = Callable[[str, object], None]


def made_trail() -> list[StoredEntry]:
    """600 entries of several commits; payloads compress or do not, are empty, or large."""
    random, head = Random(0), EMPTY_HEAD
    entries: list[StoredEntry] = []
    for count in COMMITS:
        drafts = [draft(payload_of(random), actor=f"a{random.randrange(9)}") for _ in range(count)]
        more, head = extend(ORG_ID, ORG, head, drafts, next_time_us(NOW_US, head), KEY)
        entries += more
    return entries


def payload_of(random: Random) -> bytes:
    size = random.choice([0, 20, 20, 200, 200, 2_000])
    return random.choice([random.randbytes(size), b'{"n":%d}' % size * (size // 8)])


ENTRIES: Final = made_trail()
ROWS: Final = [Row(*pack(part)) for part in cut(ENTRIES)]
LAST: Final = ENTRIES[-1]
SENT: Final = [sent(pack(part)) for part in cut(ENTRIES)]
HEAD: Final = HeadRow(LAST.seq, LAST.entry_hash, int(LAST.anchored_at.timestamp() * 1_000_000))


def verified(rows: Sequence[SentRow]) -> Result:
    """Verify the trail with these rows, as the database would send those of its org."""
    mine = sorted((row for row in rows if row[0] == ORG_ID), key=lambda row: row[1:3])
    newest = None
    if mine:
        _, seq, _, first, last_hash, _, _, ends, leaves, _ = mine[-1]
        newest = NewestRow(seq, last_hash, _last_leaf(ends, leaves, seq - first + 1))
    return judge_rows(mine, HEAD, newest, size=1_024)


def test_the_undamaged_trail_is_right() -> None:
    assert verified(SENT).errors == []
    assert any(len(row.leaves) < sum(map(len, (e.leaf for e in decode(row)))) for row in ROWS)


@pytest.mark.parametrize("ring", range(-(-TRIES // AT_ONCE)))
def test_each_random_bit_of_a_block_is_located(ring: int, record_property: Record) -> None:
    random = Random(ring)
    tried: Counter[str] = Counter()
    for _ in range(AT_ONCE):
        change = random_bit(random, ROWS)
        rows = [*SENT]
        place = Row._fields.index(change.column)
        rows[change.number] = changed_wire(SENT[change.number], place, change.bit)
        is_located(verified(rows), change)
        tried[change.column] += 1
    record_property("columns", dict(tried))


def is_located(result: Result, change: BitChange) -> None:
    """Check that the faults are those of the changed bit."""
    kinds = blame(result)
    assert kinds, change
    assert set(kinds) <= {*change.within, *claimed(change)}, (change, kinds)
    if change.exactly:
        assert set(kinds) >= set(change.within), (change, kinds)
    if change.frame is not None:
        assert kinds == {change.frame[0]: {"unreadable"}}, (change, kinds)
        (fault,) = result.errors
        assert (
            "{} to {}".format(*change.frame) in fault.reason or change.frame[0] == change.frame[1]
        )


def claimed(change: BitChange) -> set[int]:
    """The seqs that a block claims whose first or last seq was changed, if they can be a block's."""
    row = changed_wire(SENT[change.number], Row._fields.index(change.column), change.bit)
    last, first = row[1], row[3]
    assert isinstance(last, int)
    assert isinstance(first, int)
    possible = first <= last and first >> 8 == last >> 8
    return {*range(first, last + 1)} if possible else {last}


@pytest.mark.parametrize("ring", range(-(-TRIES // AT_ONCE)))
def test_each_random_repacking_by_an_owner_is_located(ring: int, record_property: Record) -> None:
    random = Random(1_000_000 + ring)
    tried: Counter[str] = Counter()
    for _ in range(AT_ONCE):
        number = random.randrange(len(ROWS))
        repacked = random_repacking(random, ROWS[number])
        new = [sent(Block(*row)) for row in repacked.rows]
        result = verified([*SENT[:number], *new, *SENT[number + 1 :]])
        assert set(blame(result)) == repacked.seqs, (repacked.what, blame(result))
        tried[repacked.what] += 1
    record_property("repackings", dict(tried))
