"""The rules of blocks, without a database."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.register import BLOCKS, Change, ChangeKind, RecordedBlock, Register, RegisterState
from ledger.core.register.blocks import KEPT_US
from ledger.core.register.changes import row
from server.access.callers.blocked import LOCAL, AddressBlocked, BlockedAddresses, spelt
from server.addresses import (
    ClientAddress,
    Network,
    address,
    client,
    contains,
    digest_of,
    network,
    network_of,
)
from server.threats.blocks import rules

KEY = b"k" * 32
HOUR_US = 3_600_000_000
SYSTEM_ID = 7
_ranges = st.sampled_from(
    ["198.51.100.0/24", "203.0.113.7", "2001:db8:e::/48", "2001:db8:f:1::7", "10.0.0.0/8"]
)
_near = st.sampled_from(
    ["127.0.0.1", "::1", "0.0.0.0", "198.51.100.1", "203.0.113.7", "203.0.113.8",
     "2001:db8:e::1", "2001:db8:f:1::7", "2001:db8:f:1::8", "::ffff:198.51.100.4", "10.9.9.9"]
)  # fmt: skip
_addresses = st.one_of(
    _near.map(lambda text: client(address(text))),
    st.integers(0, 2**32 - 1).map(lambda number: client(IPv4Address(number))),
    st.integers(0, 2**128 - 1).map(lambda number: client(address(str(IPv6Address(number))))),
)
_times = st.integers(0, 100 * HOUR_US)


class _Followed(Register):
    """A register whose state the test folds."""

    def __init__(self) -> None:
        self.folded = RegisterState()

    @property
    def state(self) -> RegisterState:
        return self.folded


def fold(state: RegisterState, seq: int, of: ClientAddress, block: RecordedBlock) -> None:
    kind = ChangeKind.ADDRESS_UNBLOCKED if block.lifted_us else ChangeKind.ADDRESS_BLOCKED
    named = row(BLOCKS, digest_of(of, KEY), b"m" * 32)
    state.apply(seq, kind, Change([named], org_id=SYSTEM_ID, block=block))


@given(
    st.lists(_ranges, max_size=4),
    st.lists(st.tuples(_addresses, _times, _times, st.booleans()), max_size=20),
    st.lists(_addresses, max_size=5),
    _times,
)
def test_no_entries_block_an_exempt_address_and_live_ones_all_others(
    exempt: list[str],
    made: list[tuple[ClientAddress, int, int, bool]],
    more: list[ClientAddress],
    now_us: int,
) -> None:
    ranges: tuple[Network, ...] = (*LOCAL, *map(network, exempt))
    followed = _Followed()
    newest: dict[str, RecordedBlock] = {}
    for seq, (of, since_us, long_us, lifted) in enumerate(made):
        block = RecordedBlock(
            "0" * 16, network_of(of), since_us, since_us + long_us, 1, since_us + 1 if lifted else 0
        )
        fold(followed.folded, seq, of, block)
        newest[of.group] = block
    blocked = BlockedAddresses(followed, KEY, ranges, lambda: now_us)
    for of in [*more, *(of for of, *_ in made)]:
        found = newest.get(of.group)
        if contains(ranges, of.ip):
            assert blocked.until_us(of) is None
            with pytest.raises(rules.AddressExempt):
                rules.require_blockable(of, ranges)
        elif found is not None and found.is_live(now_us):
            assert blocked.until_us(of) == found.until_us
            refused = blocked.refusal(of)
            assert isinstance(refused, AddressBlocked)
            left_us = refused.retry_after * 1_000_000
            assert left_us - 1_000_000 < max(found.until_us - now_us, 1) <= left_us
        else:
            assert blocked.until_us(of) is None


def test_a_stored_register_has_the_blocks_and_a_restore_forgets_them() -> None:
    state, of = RegisterState(), client(address("192.0.2.1"))
    fold(state, 0, of, RecordedBlock("a" * 16, "192.0.2.0/24", 1, 9, 2))
    read = RegisterState.decoded(state.stored().encoded())
    assert read.blocks.items() == state.blocks.items()
    assert read.blocks.last_end_us == 9
    assert read.mac(BLOCKS, digest_of(of, KEY)) == (0, b"m" * 32)
    read.apply(1, ChangeKind.ORG_RESTORED, Change(org_id=SYSTEM_ID + 1))
    assert len(read.blocks) == 1
    read.apply(2, ChangeKind.ORG_RESTORED, Change(org_id=SYSTEM_ID))
    assert len(read.blocks) == 0
    assert read.mac(BLOCKS, digest_of(of, KEY)) is None


def test_blocks_that_ended_long_ago_are_forgotten() -> None:
    state = RegisterState()
    for number in range(100):
        since_us = number * 24 * HOUR_US
        of = client(IPv4Address(number))
        fold(state, number, of, RecordedBlock(f"{number:016x}", "", since_us, since_us + HOUR_US))
    kept = KEPT_US // (24 * HOUR_US)
    assert len(state.blocks) == kept
    assert len(list(state.keys(BLOCKS, SYSTEM_ID))) == kept


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7/128", "192.0.2.7"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9/128", "2001:db8:1:2::/64"),
    ],
)
def test_addresses_are_read_in_all_their_forms(text: str, group: str) -> None:
    assert rules.address_of_text(text).group == group


@pytest.mark.parametrize(
    "text", ["", "x", "192.0.2.0/24", "2001:db8::/48", "2001:db8::1/64", "192.0.2.7/33", "1.2.3"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        rules.address_of_text(text)


def test_a_level_doubles_the_time_up_to_a_day() -> None:
    hours = [rules.lasts(level) / timedelta(hours=1) for level in (1, 2, 3, 4, 5, 6, 7, 100, 10**9)]
    assert hours == [1, 2, 4, 8, 16, 24, 24, 24, 24]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 s"), (60, "1 min"), (61, "1 min 1 s"), (3_570, "59 min 30 s"), (3_600, "1 h"),
     (12_000, "3 h 20 min"), (90_000, "1 d 1 h"), (2_592_000, "30 d")],
)  # fmt: skip
def test_a_time_is_spelt_in_its_largest_units(seconds: int, text: str) -> None:
    assert spelt(seconds) == text
