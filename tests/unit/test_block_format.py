"""The tests' own form of a block, written from docs/format.md, is the product's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.blocks.block import Block, cut, pack
from ledger.blocks.frames import DICTIONARY
from ledger.blocks.reading import contents
from ledger.chain import ChainHead, StoredEntry, extend
from tests.support import block_format
from tests.support.block_format import Row, decode, encode, is_raw
from tests.support.repacking import grouped
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, draft


def entries_of(first_seq: int, sizes: list[int]) -> list[StoredEntry]:
    drafts = [draft((b"%d " % size * size)[:size], subject=f"s{size}") for size in sizes]
    return extend(ORG_ID, ORG, ChainHead(first_seq - 1, bytes(32), 0), drafts, NOW_US, KEY)[0]


SIZES = st.lists(
    st.one_of(st.integers(0, 40), st.integers(0, 5_000), st.sampled_from([65_536, 65_537])),
    min_size=1,
    max_size=100,
)


@given(st.integers(0, 2**39), SIZES, st.booleans())
def test_each_reads_what_the_other_writes(first_seq: int, sizes: list[int], raw: bool) -> None:
    entries = entries_of(first_seq, sizes)
    groups = grouped(entries, set(entries))
    assert groups == [list(part) for part in cut(entries)]
    for group in groups:
        ours, theirs = encode(group, raw=raw), pack(group, raw=raw)
        assert decode(Row(*theirs)) == group
        assert contents(Block(*ours)) == (group, [])
        assert (ours[:7], is_raw(ours) or not raw) == (theirs[:7], True)
        assert ours == Row(*theirs) or not raw


def test_large_entries_are_cut_alike() -> None:
    entries = entries_of(
        250, [1, 1, 4 << 20, 0, (4 << 20) - 1_000, 9, 3 << 20, 3 << 20, *[8] * 300]
    )
    assert grouped(entries, set(entries)) == [list(part) for part in cut(entries)]


def test_the_dictionary_is_the_same() -> None:
    assert block_format.DICTIONARY == DICTIONARY
