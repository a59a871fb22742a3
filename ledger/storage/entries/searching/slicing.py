"""Entries read in one statement: the database cuts the slices of each from its block.

Only where the column ``ends`` has as many numbers as that of a block with regular frames; the
offsets in it are not trusted, they only select bytes of the row. See :mod:`ledger.blocks.slices`.
"""

from __future__ import annotations

from typing import Final

from ledger.blocks.block import TAG_BYTES
from ledger.blocks.layout import BLOCK_ENTRIES, FRAME_ENTRIES, VERSION
from ledger.entry import HASH_BYTES

SLICE_BYTES: Final = 8 << 10
"""Stored bytes of leaves, and of payloads, of an entry that is read by slices; more are cut."""
_PAIR: Final = 2 * TAG_BYTES


def sliced(blocks: str) -> str:
    """Return SQL of the columns of :class:`ledger.blocks.slices.EntrySlice`.

    ``blocks``: SQL of blocks and, in a column ``wanted``, the seq of an entry in each.
    """
    return f"""
SELECT wanted, last_seq, anchored_at, first_seq, last_hash, tags, record_ends, payload_ends,
    stored_records, stored_payloads, {_bytes("leaves", "leaves_start", "leaves_end")},
    {_bytes("payloads", "payloads_start", "payloads_end")}
FROM (
    SELECT wanted, last_seq, anchored_at, first_seq, leaves, payloads,
        CASE WHEN n > 0 THEN last_hash ELSE '' END AS last_hash,
        CASE WHEN n > 0 THEN substring(tags FROM {_PAIR} * at + 1 FOR {_PAIR}) ELSE '' END AS tags,
        {_numbers("at - at % F - 1", 2 * FRAME_ENTRIES + 1)} AS record_ends,
        {_numbers("n + at - at % F - 1", FRAME_ENTRIES + 1)} AS payload_ends,
        {_numbers("2 * n + at / F - 1", 3)} AS stored_records,
        {_numbers("2 * n + f + at / F - 1", 2)} AS stored_payloads,
        {_start("2 * n + at / F - 1")} AS leaves_start,
        {_number("2 * n + least(at + 1, n - 1) / F")} AS leaves_end,
        {_start("2 * n + f + at / F - 1")} AS payloads_start,
        {_number("2 * n + f + at / F")} AS payloads_end
    FROM (
        SELECT *, CASE WHEN f > 0 AND octet_length(ends) = 1 + 8 * (n0 + f)
                AND octet_length(tags) = {_PAIR} * n0 AND octet_length(last_hash) = {HASH_BYTES}
                AND substring(ends FROM 1 FOR 1) = '\\x{VERSION:02x}'
            THEN n0 ELSE 0 END AS n
        FROM (
            SELECT *, (n0 + {FRAME_ENTRIES - 1}) / {FRAME_ENTRIES} AS f FROM (
                SELECT *, {_small("last_seq - first_seq + 1")} AS n0,
                    {_small("wanted - first_seq")} AS at
                FROM ({blocks}) AS blocks OFFSET 0
            ) AS counted
        ) AS framed OFFSET 0
    ) AS regular OFFSET 0
) AS placed"""


def _small(difference: str) -> str:
    """Return SQL of a difference of seqs; 0 for a block that no writer has written."""
    possible = f"first_seq > last_seq - {BLOCK_ENTRIES}"
    return f"CASE WHEN {possible} THEN ({difference})::integer ELSE 0 END"


def _offset(number: str) -> str:
    """Return SQL of the offset of a number in ``ends``, after the version."""
    return f"1 + 4 * ({number.replace('F', str(FRAME_ENTRIES))})"


def _numbers(first: str, count: int) -> str:
    """Return SQL of consecutive numbers of ``ends``; the one before the first is any."""
    return f"""CASE WHEN n > 0 THEN substring(ends FROM {_offset(first)} + 1 FOR {4 * count})
        ELSE '' END"""


def _number(number: str) -> str:
    """Return SQL of a number of ``ends``, modulo 2^24: the slice shows where that differs."""
    at = _offset(number)
    return f"""CASE WHEN n > 0 THEN ((get_byte(ends, {at} + 1) << 8 | get_byte(ends, {at} + 2)) << 8)
        | get_byte(ends, {at} + 3) END"""


def _start(number: str) -> str:
    return f"CASE WHEN at < {FRAME_ENTRIES} THEN 0 ELSE {_number(number)} END"


def _bytes(column: str, start: str, end: str) -> str:
    size = f"least(greatest({end} - {start}, 0), {SLICE_BYTES})"
    return f"coalesce(substring({column} FROM {start} + 1 FOR {size}), '')"
