"""Random damage to a signed trail in PostgreSQL, each with the checks that it must make fail.

The damage is done as a superuser for whom no trigger fires. Damage to anchors other than
the newest is left out: nothing else refers to them (every larger anchor covers the same
checkpoints), so their loss can't be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final

from ledger.entry import entry_hash
from tests.support import blocks
from tests.support.blocks import (
    BYTES,
    Change,
    Connection,
    cut,
    duplicate,
    edit,
    flip,
    flip_link,
    move,
    point_head_at,
    raw_bit,
    remove,
    stored_at,
    swap,
    swap_columns,
)
from tests.support.tampering import Tampering, change, statement, steps

SIZES: Final = (200, 400, 600)
COUNT: Final = SIZES[-1]
KEPT: Final = (blocks.TABLE, "heads", "trees", "tile_parts", "checkpoints", "anchor_leaves")
CHECK_OF_COLUMN: Final = {
    "entry_hash": "hashes",
    "signature": "signatures",
    "leaf": "hashes",
    "payload": "payloads",
    "actor_tag": "columns",
    "subject_tag": "columns",
    "anchored_at": "columns",
}


def _a_second_later(time: datetime) -> datetime:
    return time + timedelta(seconds=1)


STORED_BITS: Final = ("last_hash", "tags", "ends", "leaves", "payloads", "first_seq", "last_seq")
"""Columns of a block of which no bit may change unnoticed."""
ALTERATIONS: Final[tuple[tuple[str, Change], ...]] = (
    *((column, b"") for column in BYTES),
    *((column, lambda value: value + b" ") for column in BYTES),
    *((column, lambda value: value[1:]) for column in BYTES),
    *((column, lambda tag: tag ^ 1) for column in ("actor_tag", "subject_tag")),
    ("anchored_at", lambda time: time + timedelta(microseconds=1)),
)
"""Columns, and another value for each."""


@dataclass(frozen=True)
class Damage:
    """One damage of an org's trail or tree.

    ``seqs`` are the damaged entries; with ``of_entries`` the entries themselves are damaged.
    With ``anywhere`` the verification of every range must find the damage, as every range is
    checked against the damaged row. Of ``checks`` none may be true in a verification that
    finds it.
    """

    name: str
    tampering: Tampering
    checks: frozenset[str]
    seqs: frozenset[int] = field(default=frozenset())
    anywhere: bool = False
    of_entries: bool = False


def _of(
    name: str, checks: str, sql: str, *, seqs: Iterable[int] = (), anywhere: bool = False
) -> Damage:
    """Damage to another table than that of the entries, by a statement with the org's id as $1."""
    return Damage(
        name, statement(sql), frozenset(checks.split()), frozenset(seqs), anywhere=anywhere
    )


def _of_entries(
    name: str, checks: str, *tamperings: Tampering, seqs: Iterable[int], anywhere: bool = False
) -> Damage:
    """Damage to entries, and perhaps to what refers to them."""
    return Damage(
        name,
        steps(*tamperings),
        frozenset(checks.split()),
        frozenset(seqs),
        anywhere=anywhere,
        of_entries=True,
    )


def _flip(column: str, bit: int) -> str:
    """SQL for a bytea with one bit flipped; ``bit`` is taken modulo the value's length."""
    at = f"({bit} % (8 * octet_length({column})))"
    return f"set_bit({column}, {at}, 1 - get_bit({column}, {at}))"


def _flipped_column(random: Random) -> Damage:
    seq, column = random.randrange(COUNT), random.choice(BYTES)
    flipped = change(flip, seq, column, random.randrange(1 << 16))
    return _of_entries(f"one bit of {column}", CHECK_OF_COLUMN[column], flipped, seqs=[seq])


def _altered_column(random: Random) -> Damage:
    seq = random.randrange(COUNT)
    column, value = random.choice(ALTERATIONS)
    altered = change(edit, seq, **{column: value})
    return _of_entries(f"{column} altered", CHECK_OF_COLUMN[column], altered, seqs=[seq])


def _renamed(random: Random) -> Damage:
    seq = random.randrange(COUNT - 1)
    renamed = change(flip_link, seq, random.randrange(64))
    return _of_entries("link renamed", "hashes", renamed, seqs=[seq + 1])


def _raw_bit(random: Random) -> Damage:
    """One stored bit of a block: what it costs depends on the column, but it is in the block."""
    seq, column = random.randrange(COUNT), random.choice(STORED_BITS)
    flipped = change(raw_bit, seq, column, random.randrange(1 << 18))
    return Damage(f"one stored bit of {column}", flipped, frozenset())


def _rehashed(random: Random) -> Damage:
    seq = random.randrange(COUNT)
    return _of_entries("leaf and hash replaced", "signatures", change(_rehash, seq), seqs=[seq])


async def _rehash(connection: Connection, org_id: int, seq: int) -> None:
    leaf = (await stored_at(connection, org_id, seq)).leaf.replace(b"event", b"eVent")
    await edit(connection, org_id, seq, leaf=leaf, entry_hash=entry_hash(leaf))


def _removed(random: Random) -> Damage:
    first = random.randrange(COUNT - 1)
    last = min(first + random.choice([0, 0, 1, 9, 300]), COUNT - 2)
    removed = change(remove, first, last)
    checks = "links hashes signatures payloads columns tree"
    return _of_entries("rows removed", checks, removed, seqs=range(first, last + 1))


def _cut(random: Random) -> Damage:
    first = random.choice([0, 1, 255, 256, 599, random.randrange(COUNT)])
    checks = "links head hashes signatures payloads columns tree"
    seqs = range(first, COUNT)
    return _of_entries("tail cut", checks, change(cut, first), seqs=seqs, anywhere=True)


def _cut_with_head(random: Random) -> Damage:
    first = random.choice([0, 1, 255, 256, 599, random.randrange(COUNT)])
    head = change(point_head_at, first - 1)
    return _of_entries(
        "tail cut, head set back",
        "links head tree",
        *(head, change(cut, first)),
        seqs=range(first, COUNT),
        anywhere=True,
    )


def _rolled_back(random: Random) -> Damage:
    size = random.choice(SIZES[:-1])
    done = (
        change(point_head_at, size - 1),
        statement(f"DELETE FROM checkpoints WHERE org_id = $1 AND size > {size}"),
        statement(f"DELETE FROM anchor_leaves WHERE org_id = $1 AND size > {size}"),
        statement(
            "UPDATE trees t SET size = c.size, root = c.root FROM checkpoints c "
            f"WHERE t.org_id = $1 AND c.org_id = $1 AND c.size = {size}"
        ),
        change(cut, size),
    )
    return _of_entries(
        "set back with its tree", "tree", *done, seqs=range(size, COUNT), anywhere=True
    )


def _swapped_rows(random: Random) -> Damage:
    a, b = random.sample(range(COUNT), 2)
    return _of_entries("rows swapped", "links columns", change(swap, a, b), seqs=[a, b])


def _swapped_columns(random: Random) -> Damage:
    (a, b), column = random.sample(range(COUNT), 2), random.choice(BYTES)
    swapped = change(swap_columns, a, b, column)
    return _of_entries(f"{column} swapped", CHECK_OF_COLUMN[column], swapped, seqs=[a, b])


def _moved(random: Random) -> Damage:
    seq, to = random.randrange(COUNT), random.choice([-7, COUNT + 5, 1 << 50])
    return _of_entries("row moved away", "links", change(move, seq, to), seqs=[seq])


def _planted(random: Random) -> Damage:
    seq = random.randrange(COUNT)
    to = random.choice([seq, seq, COUNT, COUNT + 7])
    leaf: dict[str, Change] = random.choice([{}, {}, {"leaf": b"{}"}])
    planted = change(duplicate, seq, seq=to, anchored_at=_a_second_later, **leaf)
    beyond = to >= COUNT
    checks = "head" if beyond else "links"
    return _of_entries("row planted", checks, planted, seqs=[] if beyond else [to], anywhere=beyond)


def _head(random: Random) -> Damage:
    sql = random.choice(
        [
            f"UPDATE heads SET entry_hash = {_flip('entry_hash', random.randrange(256))}",
            "UPDATE heads SET anchored_at = anchored_at + interval '1 microsecond'",
            f"UPDATE heads SET seq = seq + {random.choice([1, 9, 1 << 40])}",
            f"UPDATE heads SET seq = {random.randrange(COUNT - 1)}",
            "UPDATE heads SET seq = -9",
            "DELETE FROM heads",
        ]
    )
    return _of("head row", "head", f"{sql} WHERE org_id = $1", anywhere=True)


def _head_set_back(random: Random) -> Damage:
    back = change(point_head_at, random.randrange(COUNT - 1))
    return Damage("head row set back", back, frozenset({"head"}), anywhere=True)


def _tile(random: Random) -> Damage:
    tile = random.randrange(3)
    where = f"org_id = $1 AND level = 0 AND tile = {tile}"
    first = f"start = (SELECT min(start) FROM tile_parts WHERE {where})"
    sql = random.choice(
        [
            f"UPDATE tile_parts SET hashes = {_flip('hashes', random.randrange(1 << 14))} "
            f"WHERE {where} AND {first}",
            f"DELETE FROM tile_parts WHERE {where} AND {first}",
            f"DELETE FROM tile_parts WHERE {where}",
        ]
    )
    seqs = range(tile * 256, min(tile * 256 + 256, COUNT))
    return _of("tile", "tree", sql, seqs=seqs)


def _upper_tile(random: Random) -> Damage:
    sql = random.choice(
        [
            f"UPDATE tile_parts SET hashes = {_flip('hashes', random.randrange(1 << 14))}",
            "DELETE FROM tile_parts",
        ]
    )
    return _of("upper tile", "tree", f"{sql} WHERE org_id = $1 AND level = 1")


def _checkpoint(random: Random) -> Damage:
    size = random.choice(SIZES)
    sql = random.choice(
        [
            f"UPDATE checkpoints SET note = {_flip('note', random.randrange(1 << 14))}",
            "UPDATE checkpoints SET note = substr(note, 2)",
            f"UPDATE checkpoints SET root = {_flip('root', random.randrange(256))}",
            "UPDATE checkpoints SET size = size - 1",
            "DELETE FROM checkpoints",
        ]
    )
    sql = f"{sql} WHERE org_id = $1 AND size = {size}"
    return _of("checkpoint", "checkpoints", sql, seqs=[size - 1], anywhere=size == COUNT)


def _tree_row(random: Random) -> Damage:
    sql = random.choice(
        [
            f"UPDATE trees SET size = {random.randrange(COUNT)}",
            f"UPDATE trees SET root = {_flip('root', random.randrange(256))}",
            "DELETE FROM trees",
        ]
    )
    return _of("tree row", "tree", f"{sql} WHERE org_id = $1", anywhere=True)


def _anchor_leaf(random: Random) -> Damage:
    sql = random.choice(
        [
            f"UPDATE anchor_leaves SET leaf = {_flip('leaf', random.randrange(256))}",
            f"UPDATE anchor_leaves SET nonce = {_flip('nonce', random.randrange(256))}",
            "DELETE FROM anchor_leaves",
        ]
    )
    sql = f"{sql} WHERE org_id = $1 AND size = {random.choice(SIZES)}"
    return _of("anchor leaf", "anchors", sql)


def _anchor(random: Random) -> Damage:
    newest = "org_id = 0 AND size = (SELECT max(size) FROM checkpoints WHERE org_id = 0)"
    sql, checks = random.choice(
        [
            (
                f"UPDATE checkpoints SET note = {_flip('note', random.randrange(1 << 15))}",
                "anchors",
            ),
            (f"UPDATE checkpoints SET root = {_flip('root', random.randrange(256))}", "anchors"),
            ("DELETE FROM checkpoints", "anchors classical_signature pq_signature"),
        ]
    )
    return _of("newest anchor", checks, f"{sql} WHERE {newest}", anywhere=True)


def _anchor_tree(random: Random) -> Damage:
    table, sql = random.choice(
        [
            ("trees", "UPDATE trees SET size = size - 1"),
            ("trees", "DELETE FROM trees"),
            (
                "tile_parts",
                f"UPDATE tile_parts SET hashes = {_flip('hashes', random.randrange(1 << 14))}",
            ),
            ("tile_parts", "DELETE FROM tile_parts"),
        ]
    )
    sql = f"{sql} WHERE org_id = 0"
    return _of("tree of the anchor log", "anchors", sql, anywhere=table == "trees")


DAMAGES: Final[tuple[Callable[[Random], Damage], ...]] = (
    _flipped_column, _altered_column, _renamed, _raw_bit, _rehashed, _removed, _cut, _cut_with_head, _rolled_back,
    _swapped_rows, _swapped_columns, _moved, _planted, _head, _head_set_back, _tile, _upper_tile,
    _checkpoint, _tree_row, _anchor_leaf, _anchor, _anchor_tree,
)  # fmt: skip
