"""The check of one segment: bytes of a binary COPY in, faults out. Pure, in constant memory.

Nearly every row of a trail is right, and :meth:`SegmentScan._pass_right` finds that
out at the least cost. It passes a row only where :func:`check_entry` would find
nothing; whatever it does not pass goes to :func:`check_entry`, which names the
faults, and through the code here that names the faults between rows.
"""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec
from blake3 import blake3

from ledger.chain import Entry, Fault, check_entry
from ledger.core.verification.faults import MAX_FAULTS, MAX_REASON_CHARS, spell_range
from ledger.core.verification.rows import (
    BIGINT_BYTES,
    COPY_TRAILER,
    FIXED,
    LENGTH,
    PG_EPOCH_US,
    CopyError,
    LooseRow,
    prefix_of,
    read_loose,
    skip_header,
)
from ledger.core.verification.segment import Segment, SegmentResult
from ledger.entry import (
    HASH_BYTES,
    MAX_LEAF_BYTES,
    MAX_TIME_US,
    Leaf,
    decode_leaf,
    encode_leaf_unchecked,
    entry_hash,
    format_time,
    search_tag,
)
from ledger.errors import MalformedLeaf
from ledger.keys import SigningKeyring

MAX_CACHED: Final = 20_000
"""Search tags, and times as text, that are kept for the rows to come."""
MAX_LINKS: Final = 8
"""Hashes remembered at one seq; more than one only where rows there are at fault."""

Link = str | tuple[bytes, ...] | None
"""What the next row's ``previous_hash`` should be: one hash as hex, None for the first
entry, any of several hashes after a row at fault, or no hash at all where it is not known."""
UNKNOWN: Final = ()

FIXED_BYTES: Final = FIXED.size
LENGTH_BYTES: Final = LENGTH.size
NOT_PLAIN: Final = (
    struct.error,
    KeyError,
    msgspec.MsgspecError,
    UnicodeError,
    RecursionError,
    MalformedLeaf,
)
"""What the fast path meets in a row cut off, unparsable or signed with an unknown key."""
# A module's names are faster to reach than attributes.
unpack_fixed = FIXED.unpack_from
unpack_length = LENGTH.unpack_from
decode = msgspec.json.Decoder(Leaf).decode
encode = encode_leaf_unchecked


class _Tags(dict[str | None, int]):
    """Search tags of actors and subjects, computed where they are missing."""

    def __missing__(self, value: str | None) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        tag = self[value] = search_tag(value)
        return tag


class _Times(dict[int, str | None]):
    """PostgreSQL's times as the leaf writes them; None for a time it can't write."""

    def __missing__(self, pg_us: int) -> str | None:
        if len(self) >= MAX_CACHED:
            self.clear()
        time_us = pg_us + PG_EPOCH_US
        text = self[pg_us] = format_time(time_us) if 0 <= time_us <= MAX_TIME_US else None
        return text


class _Held(NamedTuple):
    """The last row, at fault: another row at its seq may turn out to be the right one."""

    entry: Entry
    faults: list[Fault]
    before: Link


class SegmentScan:
    """Checks the rows of one segment, ordered by seq. Feed it, then finish it.

    Raises CopyError where the bytes are no such stream: that says nothing of the trail.
    """

    def __init__(self, org_id: int, org: str, keyring: SigningKeyring, segment: Segment) -> None:
        self.rows = 0
        self._prefix = prefix_of(org_id)
        self._org = org
        self._keyring = keyring
        self._segment = segment
        self._signers = {key.key_id: key.sign for key in keyring.keys()}
        self._tags = _Tags()
        self._times = _Times()
        self._rest = b""
        self._started = False
        self._expected = segment.first - segment.context
        self._link: Link = UNKNOWN if segment.context or segment.first > 0 else None
        self._last_leaf: bytes | None = None
        self._held: _Held | None = None
        self._strays = 0
        self._failed = 0
        self._leading_gap = 0
        self._missing = 0
        self._faults: list[Fault] = []
        self._fault_count = 0
        self._kinds: set[str] = set()

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream, cut anywhere."""
        buffer = self._rest + chunk if self._rest else bytes(chunk)
        start: int | None = 0
        if not self._started:
            start = skip_header(buffer)
            self._started = start is not None and start <= len(buffer)
        self._rest = buffer[self._scan(buffer, start or 0) :] if self._started else buffer

    def finish(self) -> SegmentResult:
        """The result, once the whole stream was fed. Raises CopyError where it was cut."""
        if self._rest != COPY_TRAILER:
            raise CopyError("the stream of rows ended early")
        self._settle()
        segment = self._segment
        absent = segment.last + 1 - max(self._expected, segment.first)
        if segment.beyond:
            self._report_beyond()
            absent = 0
        ended = absent == 0
        empty = self.rows == 0
        return SegmentResult(
            rows=self.rows,
            failed_rows=self._failed,
            leading_gap=absent if empty else self._leading_gap,
            trailing_gap=0 if empty else absent,
            missing=self._missing,
            faults=self._faults,
            fault_count=self._fault_count,
            kinds=sorted(self._kinds),
            end_hashes=list(_candidates(self._link)) if ended else [],
            end_time=_time_of(self._last_leaf) if ended else None,
        )

    def _scan(self, buffer: bytes, position: int) -> int:
        """Check all rows that are whole; returns where the first that is not begins."""
        while True:
            position = self._pass_right(buffer, position)
            loose = read_loose(buffer, position)
            if loose is None:
                return position
            row, position = loose
            self._take(row)

    def _pass_right(self, buffer: bytes, position: int) -> int:
        """Go past rows that are right; returns where the first that may not be begins.

        The speed of verification is the speed of this loop, so it is one piece: it
        calls little, and one expression says that a row is right. Every condition
        of check_entry is in it, the rules of decode_leaf included.
        """
        prefix, org, signers = self._prefix, self._org, self._signers
        tags, times = self._tags, self._times
        expected, link, last_leaf = self._expected, self._link, self._last_leaf
        end, row_end = len(buffer), position
        leaf_data = digest = b""
        while True:
            try:
                (
                    row_prefix, seq, n3, time, n4, actor_tag, n5, subject_tag,
                    n6, stored_hash, n7, signature, leaf_bytes,
                ) = unpack_fixed(buffer, position)  # fmt: skip
                leaf_at = position + FIXED_BYTES
                leaf_end = leaf_at + leaf_bytes
                leaf_data = buffer[leaf_at:leaf_end]
                payload_at = leaf_end + LENGTH_BYTES
                (payload_bytes,) = unpack_length(buffer, leaf_end)
                row_end = payload_at + payload_bytes
                digest = sha256(b"\x00" + leaf_data).digest()
                leaf = decode(leaf_data)
                payload = leaf.payload
                right: bool = (
                    seq == expected
                    and row_end <= end
                    and row_prefix == prefix
                    and n3 == n4 == n5 == BIGINT_BYTES
                    and n6 == n7 == HASH_BYTES
                    and digest == stored_hash
                    and signers[leaf.key](digest) == signature
                    and leaf.previous_hash == link
                    and leaf.seq == seq
                    and leaf.org == org
                    and leaf.anchored_at == times[time]
                    and tags[leaf.actor] == actor_tag
                    and tags[leaf.subject] == subject_tag
                    and payload.size == payload_bytes
                    and payload.blake3 == blake3(buffer[payload_at:row_end]).digest().hex()
                    and leaf_bytes <= MAX_LEAF_BYTES
                    and encode(leaf) == leaf_data
                    and (
                        not (0x5C in leaf_data or 0x7F in leaf_data or 0xC2 in leaf_data)
                        or decode_leaf(leaf_data) is not None
                    )
                )
            except NOT_PLAIN:
                right = False
            if not right:
                self.rows += expected - self._expected
                self._expected, self._link, self._last_leaf = expected, link, last_leaf
                return position
            last_leaf = leaf_data
            link = digest.hex()
            expected += 1
            position = row_end

    def _take(self, row: LooseRow) -> None:
        """Judge a row that is not plainly right where it stands."""
        seq = row.entry.seq
        if seq < self._segment.first - self._segment.context:
            self._take_stray(row)
        elif seq == self._expected - 1:
            self._take_second(row)
        elif seq < self._expected or seq > self._segment.last:
            raise CopyError(f"row {seq} came out of order: an index of entries may be damaged")
        else:
            self._settle()
            self._pass_gap(seq)
            before = self._link
            faults = self._check(row, before)
            self._count_row(seq)
            self._expected = seq + 1
            self._link = _links_from(row.entry, faults) if faults else row.entry.entry_hash.hex()
            self._last_leaf = row.entry.leaf
            if faults:
                self._held = _Held(row.entry, faults, before)

    def _take_stray(self, row: LooseRow) -> None:
        """A row before the first entry there can be."""
        self.rows += 1
        self._strays += 1
        seq = row.entry.seq
        stray = Fault(seq, "genesis", "a row stands before entry 0")
        self._report(seq, [stray, *self._check(row, UNKNOWN)])

    def _take_second(self, row: LooseRow) -> None:
        """Another row at the seq of the last one: the one at fault is the intruder."""
        entry = row.entry
        self._count_row(entry.seq)
        held = self._held if self._held and self._held.entry.seq == entry.seq else None
        faults = self._check(row, held.before if held else _link_of(self._last_leaf))
        links = _links_from(entry, faults)
        last_leaf = self._last_leaf or b""
        if held and not faults:
            self._held = None
            self._last_leaf = entry.leaf
            self._link = entry.entry_hash.hex()
            self._report(entry.seq, _as_second(held.entry, held.faults, entry.leaf))
            return
        if faults and not held:
            links = ()
        self._link = tuple(dict.fromkeys(_candidates(self._link) + links))[:MAX_LINKS]
        self._report(entry.seq, _as_second(entry, faults, last_leaf))

    def _count_row(self, seq: int) -> None:
        if seq >= self._segment.first:
            self.rows += 1

    def _pass_gap(self, seq: int) -> None:
        """Note that what should stand before this row is not there."""
        if seq == self._expected:
            return
        self._link = UNKNOWN
        first = max(self._expected, self._segment.first)
        missing = seq - first
        if missing and not self.rows:
            self._leading_gap = missing
        elif missing and not self._segment.beyond:
            self._missing += missing
            self._add(Fault(first, "missing", spell_range(first, seq - 1, "missing")))

    def _check(self, row: LooseRow, before: Link) -> list[Fault]:
        """All faults of one row, with its link to the row before."""
        entry = row.entry
        if row.absent:
            columns = ", ".join(row.absent)
            return [Fault(entry.seq, "unreadable", f"NULL or too large to be read: {columns}")]
        faults = self._check_links(entry, _candidates(before))
        kinds = {fault.kind for fault in faults}
        if "seq_mismatch" in kinds:  # its link is to the place it came from
            faults = [fault for fault in faults if fault.kind != "link_broken"]
        if row.anchored_us is None and "leaf_malformed" not in kinds:
            faults = [fault for fault in faults if "anchored_at" not in fault.reason]
            faults.append(Fault(entry.seq, "column_mismatch", "column anchored_at is no date"))
        return faults

    def _check_links(self, entry: Entry, candidates: tuple[bytes, ...]) -> list[Fault]:
        faults = check_entry(entry, self._org, self._keyring, None)
        for candidate in candidates:
            faults = check_entry(entry, self._org, self._keyring, candidate)
            if all(fault.kind != "link_broken" for fault in faults):
                break
        return faults

    def _settle(self) -> None:
        """The last row's seq is over: what it was held for will not come any more."""
        if self._held:
            self._report(self._held.entry.seq, self._held.faults)
            self._held = None

    def _report(self, seq: int, faults: list[Fault]) -> None:
        """One row's faults; the context row's are the segment's before."""
        if self._segment.context and seq == self._segment.first - 1:
            return
        self._failed += 1
        for fault in faults:
            self._add(fault)

    def _add(self, fault: Fault) -> None:
        self._fault_count += 1
        self._kinds.add(fault.kind)
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(Fault(fault.seq, fault.kind, fault.reason[:MAX_REASON_CHARS]))

    def _report_beyond(self) -> None:
        rows = self.rows - self._strays
        if rows:
            self._failed = self.rows
            first = self._segment.first + self._leading_gap
            self._leading_gap = 0
            reason = f"{rows} entries from here on stand beyond the head row"
            self._add(Fault(first, "beyond_head", reason))
            self._faults.sort(key=lambda fault: fault.seq)


def _candidates(link: Link) -> tuple[bytes, ...]:
    """The hashes a link stands for, as check_entry takes them."""
    if link is None:
        return (b"",)
    return (bytes.fromhex(link),) if isinstance(link, str) else link


def _links_from(entry: Entry, faults: list[Fault]) -> tuple[bytes, ...]:
    """What the entry after this row may rightly name as the hash before it.

    Where leaf and stored hash differ, one of the two was altered here, and the
    next entry must not be blamed whichever it was. A row that belongs elsewhere
    says nothing of what stood here.
    """
    kinds = {fault.kind for fault in faults}
    if "seq_mismatch" in kinds:
        return (entry.entry_hash,) if "hash_mismatch" in kinds else UNKNOWN
    hashes = (entry.entry_hash, entry_hash(entry.leaf))
    return tuple(dict.fromkeys(value for value in hashes if len(value) == HASH_BYTES))


def _link_of(leaf: bytes | None) -> Link:
    """The ``previous_hash`` of a leaf known to be right."""
    return decode_leaf(leaf).previous_hash if leaf else UNKNOWN


def _time_of(leaf: bytes | None) -> str | None:
    try:
        return decode_leaf(leaf).anchored_at if leaf else None
    except MalformedLeaf:
        return None


def _as_second(entry: Entry, faults: list[Fault], right_leaf: bytes) -> list[Fault]:
    """The faults of a row whose place another row holds."""
    if any(fault.kind == "seq_mismatch" for fault in faults):
        return faults  # moved here from where it is now missing
    if entry.leaf == right_leaf:
        second = Fault(entry.seq, "duplicate_seq", "the entry stands here more than once")
    else:
        second = Fault(entry.seq, "inserted", "a row that is not the entry of this seq")
    return [second, *faults]
