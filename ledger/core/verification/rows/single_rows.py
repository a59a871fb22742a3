"""One entry of a run as it is stored, with any content, and all of its own faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ledger.blocks.block import TAG_BYTES
from ledger.blocks.reading import previous_hash_of
from ledger.chain import StoredEntry, TrailFault, check_entry
from ledger.core.verification.rows.own_hash import hash_inside_block
from ledger.core.verification.rows.runs import TAGS_BYTES, Run
from ledger.entry import MAX_TIME_US, entry_hash, to_datetime
from ledger.keys import SigningKeyring
from ledger.storage.copy_format import PG_EPOCH_US


class RawEntry(NamedTuple):
    """A stored entry; ``anchored_us`` is None outside the years 1970 to 9999.

    ``has_payload``: its payload could be read. ``faults`` are those of its block's columns.
    """

    entry: StoredEntry
    anchored_us: int | None
    has_payload: bool
    faults: Sequence[TrailFault]


class StoredEntryChecks:
    """Reads and checks single entries of one org's trail."""

    def __init__(self, org: str, keyring: SigningKeyring) -> None:
        self._org = org
        self._keyring = keyring

    def raw(self, run: Run, position: int) -> RawEntry:
        """Return the entry at a position of a run, whose leaf must be readable."""
        block, leaf, signature = run.block, run.leaves[position], run.signatures[position]
        assert leaf is not None, "only readable entries are asked for"
        assert signature is not None, "it is read together with the leaf"
        payload = run.payloads[position]
        anchored_us = block.anchored + PG_EPOCH_US
        in_range = 0 <= anchored_us <= MAX_TIME_US
        at = TAGS_BYTES * position
        entry = StoredEntry(
            block.org_id,
            block.first_seq + position,
            to_datetime(anchored_us if in_range else 0),
            int.from_bytes(block.tags[at : at + TAG_BYTES], "big"),
            int.from_bytes(block.tags[at + TAG_BYTES : at + TAGS_BYTES], "big"),
            self._stored_hash(run, position, leaf, signature),
            signature,
            leaf,
            payload or b"",
        )
        is_last = position == block.entry_count - 1
        return RawEntry(
            entry,
            anchored_us if in_range else None,
            payload is not None,
            run.faults if is_last else (),
        )

    def _stored_hash(self, run: Run, position: int, leaf: bytes, signature: bytes) -> bytes:
        """The hash of an entry inside a block, of the last entry of a block the block's."""
        block = run.block
        if position == block.entry_count - 1:
            return entry_hash(leaf) if "last_hash" in block.absent else block.last_hash
        named = previous_hash_of(run.leaves[position + 1] or b"")
        return hash_inside_block(named, leaf, signature, self._keyring)

    def faults(self, raw: RawEntry, before: tuple[bytes, ...]) -> list[TrailFault]:
        """All faults of one entry; ``before`` are the hashes that it may link to, none: unknown."""
        faults = self._linked(raw.entry, before)
        kinds = {fault.kind for fault in faults}
        if "seq_mismatch" in kinds:  # it was moved here: its link belongs to its own seq
            faults = [fault for fault in faults if fault.kind != "link_broken"]
        if not raw.has_payload:
            faults = [fault for fault in faults if fault.kind != "payload_mismatch"]
        if raw.anchored_us is None and "leaf_malformed" not in kinds:
            faults = [fault for fault in faults if "anchored_at" not in fault.reason]
            reason = "the column anchored_at has an impossible time"
            faults.append(TrailFault(raw.entry.seq, "column_mismatch", reason))
        return [*faults, *raw.faults]

    def _linked(self, entry: StoredEntry, before: tuple[bytes, ...]) -> list[TrailFault]:
        faults = check_entry(entry, self._org, self._keyring, None)
        for candidate in before:
            faults = check_entry(entry, self._org, self._keyring, candidate)
            if all(fault.kind != "link_broken" for fault in faults):
                break
        return faults
