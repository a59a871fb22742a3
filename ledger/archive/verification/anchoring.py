"""Checks the dating of an archived trail: its leaves in the anchor log, and the attestations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, TypeVar

from ledger.anchor import NONCE_BYTES, blind
from ledger.archive.format.layout import CHECKPOINT, HISTORY, NONCES, Span, place_of
from ledger.archive.format.records import (
    RECORDS_BYTES_MAX,
    AnchoredAt,
    ArchivedCheckpoint,
    decode_rows,
)
from ledger.archive.reading.reader import ArchivedCosignature, ArchivedToken, ArchiveReader
from ledger.archive.targets import Target
from ledger.archive.verification.findings import ArchiveFindings
from ledger.errors import (
    ArchiveMismatch,
    ArchiveObjectMissing,
    FormatError,
    KeyHistoryError,
    NoteError,
    TimestampError,
)
from ledger.log_keys import LogKeyHistory
from ledger.merkle import HASH_BYTES, leaf_hash
from ledger.note import parse_note
from ledger.policy import Policy
from ledger.tiles import TILE_WIDTH, Tile, tile_in
from ledger.timestamp import verify

Attested = TypeVar("Attested", ArchivedToken, ArchivedCosignature)


class TrustedAttestors(NamedTuple):
    """The trusted timestamp authorities (PEM) and witnesses; None: these are not checked."""

    authorities: bytes | None = None
    policy: Policy | None = None


async def check_anchoring(
    target: Target,
    reader: ArchiveReader,
    until: int,
    history: LogKeyHistory,
    found: ArchiveFindings,
) -> None:
    """Check that the archived anchor log commits to a trail's checkpoints of sizes up to ``until``.

    Larger checkpoints are ignored: they may be written during the check, their history and their
    anchor log indexes in any order.
    """
    anchors = ArchiveReader.of_anchors(target)
    try:
        note = await anchors.checkpoint()
        newest = await _newest_history(anchors, history)
        size = 0 if note is None else anchors.opened(note, newest).size
    except (FormatError, ArchiveMismatch, KeyHistoryError) as error:
        found.fault(f"{anchors.org}/{CHECKPOINT}", "anchors", str(error))
        return
    leaves = _Leaves(anchors, size)
    confirmed, wrong = -1, None
    try:
        until_us = await _signed_until(anchors, size)
        async for row, signed in _paired(reader, until, found, until_us):
            if row.idx >= size:  # an index is archived after the anchor that covers it
                if row.idx >= await _size_now(anchors, newest):
                    _add_set_back(row, size, found)
                continue
            if wrong is not None and wrong.idx != row.idx:
                _add_wrong_leaf(wrong, found)
                wrong = None
            if len(row.nonce) == NONCE_BYTES and await leaves.at(row.idx) == leaf_hash(
                blind(row.nonce, signed.note)
            ):
                confirmed, wrong = row.idx, None
            elif row.idx != confirmed:
                wrong = row
            found.checked.add("anchors")
    except (ArchiveMismatch, ArchiveObjectMissing) as error:
        found.fault(NONCES, "anchors", str(error))
    if wrong is not None:
        _add_wrong_leaf(wrong, found)


async def _newest_history(anchors: ArchiveReader, history: LogKeyHistory) -> LogKeyHistory:
    """Return the longer of the key histories of a trail and of the anchor log.

    Each is archived with its own log: after a rotation an org without new entries keeps the
    shorter history, while the new key signs the anchors that other orgs cause. Raises
    KeyHistoryError where neither history extends the other.
    """
    try:
        shared = await anchors.key_history()
    except ArchiveObjectMissing:
        return history
    if len(shared.keys) < len(history.keys):
        history.check_extends(shared)
        return history
    shared.check_extends(history)
    return shared


async def _size_now(anchors: ArchiveReader, history: LogKeyHistory) -> int:
    """Return the current size of the archived anchor log, which may have grown since."""
    note = await anchors.checkpoint()
    try:
        return 0 if note is None else anchors.opened(note, history).size
    except FormatError:
        return 0


def _add_set_back(row: AnchoredAt, size: int, found: ArchiveFindings) -> None:
    reason = (
        f"leaf {row.idx}, for size {row.size}, is beyond the archived anchor log of {size} leaves: "
        "that log was set back"
    )
    found.fault(NONCES, "anchors", reason)


def _add_wrong_leaf(row: AnchoredAt, found: ArchiveFindings) -> None:
    reason = f"leaf {row.idx} of the anchor log does not commit to size {row.size}"
    found.fault(NONCES, "anchors", reason)


async def _signed_until(anchors: ArchiveReader, size: int) -> int:
    """Return when the newest archived anchor was signed (POSIX µs); 0 where there is none."""
    last = None
    async for listed in anchors.objects(HISTORY):
        place = place_of(listed.key)
        if isinstance(place, Span) and place.last <= size:
            last = listed.key
    if last is None:
        return 0
    rows = decode_rows(await anchors.read(last, RECORDS_BYTES_MAX), ArchivedCheckpoint)
    return max((row.signed_us for row in rows), default=0)


async def _paired(
    reader: ArchiveReader, until: int, found: ArchiveFindings, until_us: int
) -> AsyncIterator[tuple[AnchoredAt, ArchivedCheckpoint]]:
    """Yield each archived anchor log leaf with its checkpoint; both come smallest first.

    Checkpoints without a leaf are counted: no archived anchor has covered their leaves, or the
    leaves were lost before. A later anchored checkpoint of the same tree dates the checkpoints
    before it; the others are overdue once an anchor was signed after them (``until_us``). Raises
    ArchiveMismatch for a leaf whose checkpoint is not archived.
    """
    # The checkpoint of size 0 is never anchored.
    history = (signed async for signed in reader.history() if 0 < signed.size <= until)
    signed = await anext(history, None)
    anchored = 0
    async for row in reader.nonces():
        found.newest = max(found.newest, row.size)
        if row.size > until:
            continue
        while signed is not None and signed.size < row.size:
            found.unanchored += signed.size != anchored
            signed = await anext(history, None)
        if signed is None or signed.size > row.size:
            raise ArchiveMismatch(f"the checkpoint of size {row.size} is not in {HISTORY}")
        anchored = row.size
        yield row, signed
    while signed is not None:
        if signed.size != anchored:
            found.unanchored += 1
            found.overdue += signed.signed_us <= until_us
        signed = await anext(history, None)


class _Leaves:
    """Reads leaf hashes of the anchor log, in ascending order; one tile is cached."""

    def __init__(self, anchors: ArchiveReader, size: int) -> None:
        self._anchors = anchors
        self._size = size
        self._tile: Tile | None = None
        self._hashes = b""

    async def at(self, idx: int) -> bytes:
        tile = tile_in(self._size, 0, idx // TILE_WIDTH)
        if tile != self._tile:
            self._tile, self._hashes = tile, await self._anchors.tile(tile)
        at = idx % TILE_WIDTH * HASH_BYTES
        return self._hashes[at : at + HASH_BYTES]


async def check_attestations(
    reader: ArchiveReader, until: int, attestors: TrustedAttestors, found: ArchiveFindings
) -> None:
    """Check tokens and cosignatures of anchors of sizes up to ``until`` with the attestors."""
    if attestors.authorities is not None:
        async for token, note in _with_notes(
            reader, reader.tokens(), until, found, "external_time"
        ):
            try:
                verify(token.token, note, attestors.authorities)
                found.checked.add("external_time")
            except TimestampError as error:
                found.fault(token.key, "external_time", str(error))
    if attestors.policy is not None:
        await _check_witnesses(reader, until, attestors.policy, found)


async def _check_witnesses(
    reader: ArchiveReader, until: int, policy: Policy, found: ArchiveFindings
) -> None:
    size, names = 0, set[str]()
    async for line, note in _with_notes(reader, reader.cosignatures(), until, found, "witnesses"):
        if line.size != size:
            size, names = line.size, set()
        try:
            names |= policy.cosigned_by(parse_note(note), line.line)
        except NoteError as error:
            found.fault(line.key, "witnesses", str(error))
        if names and policy.satisfied_by(names):
            found.checked.add("witnesses")


async def _with_notes(
    reader: ArchiveReader,
    attested: AsyncIterator[Attested],
    until: int,
    found: ArchiveFindings,
    check: str,
) -> AsyncIterator[tuple[Attested, bytes]]:
    """Yield each attestation with its anchor's note; both come smallest first."""
    history = aiter(reader.history())
    signed: ArchivedCheckpoint | None = None
    ended = False
    async for one in attested:
        if one.size > until:
            break  # they come smallest first
        while not ended and (signed is None or signed.size < one.size):
            signed = await anext(history, None)
            ended = signed is None
        if signed is None or signed.size != one.size:
            found.fault(one.key, check, f"the anchor of size {one.size} is not archived")
        else:
            yield one, signed.note
