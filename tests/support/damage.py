"""Random damage to a signed trail in PostgreSQL, each with the checks that it must make fail.

The damage is done as a superuser for whom no trigger fires. Damage to anchors other than
the newest is left out: nothing else refers to them (every larger anchor covers the same
checkpoints), so their loss can't be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

SIZES: Final = (200, 400, 600)
COUNT: Final = SIZES[-1]
KEPT: Final = ("entries", "heads", "trees", "tile_parts", "checkpoints", "anchor_leaves")
BYTES: Final = ("entry_hash", "signature", "leaf", "payload")
CHECK_OF_COLUMN: Final = {
    "entry_hash": "hashes",
    "signature": "signatures",
    "leaf": "hashes",
    "payload": "payloads",
    "actor_tag": "columns",
    "subject_tag": "columns",
    "anchored_at": "columns",
}


@dataclass(frozen=True)
class Damage:
    """One damage: SQL statements for the org with the id ``{org}``.

    ``seqs`` are the damaged entries. With ``anywhere`` the verification of every range must
    find the damage, as every range is checked against the damaged row. Of ``checks`` none may
    be true in a verification that finds it.
    """

    name: str
    statements: tuple[str, ...]
    checks: frozenset[str]
    seqs: frozenset[int] = field(default=frozenset())
    anywhere: bool = False


def _of(
    name: str, checks: str, *statements: str, seqs: Iterable[int] = (), anywhere: bool = False
) -> Damage:
    return Damage(
        name,
        statements,
        frozenset(checks.split()),
        frozenset(seqs),
        anywhere,
    )


def _flip(column: str, bit: int) -> str:
    """SQL for a bytea with one bit flipped; ``bit`` is taken modulo the value's length."""
    at = f"({bit} % (8 * octet_length({column})))"
    return f"set_bit({column}, {at}, 1 - get_bit({column}, {at}))"


def _flipped_column(random: Random) -> Damage:
    seq, column = random.randrange(COUNT), random.choice(BYTES)
    sql = f"UPDATE entries SET {column} = {_flip(column, random.randrange(1 << 16))}"
    where = f"WHERE org_id = {{org}} AND seq = {seq}"
    return _of(f"one bit of {column}", CHECK_OF_COLUMN[column], f"{sql} {where}", seqs=[seq])


def _altered_column(random: Random) -> Damage:
    seq = random.randrange(COUNT)
    column, value = random.choice(
        [
            *((name, "''") for name in BYTES),
            *((name, f"{name} || '\\x20'") for name in BYTES),
            *((name, f"substr({name}, 2)") for name in BYTES),
            *((name, f"{name} # 1") for name in ("actor_tag", "subject_tag")),
            ("anchored_at", "anchored_at + interval '1 microsecond'"),
        ]
    )
    sql = f"UPDATE entries SET {column} = {value} WHERE org_id = {{org}} AND seq = {seq}"
    return _of(f"{column} altered", CHECK_OF_COLUMN[column], sql, seqs=[seq])


def _rehashed(random: Random) -> Damage:
    seq = random.randrange(COUNT)
    sql = (
        "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'event', 'eVent'),"
        " 'UTF8') WHERE org_id = {org} AND seq = " + str(seq),
        f"UPDATE entries SET entry_hash = sha256('\\x00' || leaf) WHERE org_id = {{org}} AND seq = {seq}",
    )
    return _of("leaf and hash replaced", "signatures", *sql, seqs=[seq])


def _removed(random: Random) -> Damage:
    first = random.randrange(COUNT - 1)
    last = min(first + random.choice([0, 0, 1, 9, 300]), COUNT - 2)
    sql = f"DELETE FROM entries WHERE org_id = {{org}} AND seq BETWEEN {first} AND {last}"
    checks = "links hashes signatures payloads columns tree"
    return _of("rows removed", checks, sql, seqs=range(first, last + 1))


def _cut(random: Random) -> Damage:
    first = random.choice([0, 1, 255, 256, 599, random.randrange(COUNT)])
    sql = f"DELETE FROM entries WHERE org_id = {{org}} AND seq >= {first}"
    checks = "links head hashes signatures payloads columns tree"
    seqs = range(first, COUNT)
    return _of("tail cut", checks, sql, seqs=seqs, anywhere=True)


def _set_head(seq: int) -> str:
    return (
        f"UPDATE heads h SET seq = {seq}, entry_hash = e.entry_hash, anchored_at = e.anchored_at "
        f"FROM entries e WHERE h.org_id = {{org}} AND e.org_id = {{org}} AND e.seq = {seq}"
    )


_NO_HEAD: Final = (
    "UPDATE heads SET seq = -1, entry_hash = '', anchored_at = 'epoch' WHERE org_id = {org}"
)


def _cut_with_head(random: Random) -> Damage:
    first = random.choice([0, 1, 255, 256, 599, random.randrange(COUNT)])
    head = _set_head(first - 1) if first else _NO_HEAD
    sql = f"DELETE FROM entries WHERE org_id = {{org}} AND seq >= {first}"
    checks = "links head tree"
    return _of(
        "tail cut, head set back", checks, head, sql, seqs=range(first, COUNT), anywhere=True
    )


def _rolled_back(random: Random) -> Damage:
    size = random.choice(SIZES[:-1])
    sql = (
        _set_head(size - 1),
        f"DELETE FROM checkpoints WHERE org_id = {{org}} AND size > {size}",
        f"DELETE FROM anchor_leaves WHERE org_id = {{org}} AND size > {size}",
        "UPDATE trees t SET size = c.size, root = c.root FROM checkpoints c "
        f"WHERE t.org_id = {{org}} AND c.org_id = {{org}} AND c.size = {size}",
        f"DELETE FROM entries WHERE org_id = {{org}} AND seq >= {size}",
    )
    return _of("set back with its tree", "tree", *sql, seqs=range(size, COUNT), anywhere=True)


def _swapped_rows(random: Random) -> Damage:
    a, b = random.sample(range(COUNT), 2)
    sql = (
        f"UPDATE entries SET seq = CASE seq WHEN {a} THEN -{b} - 9 ELSE -{a} - 9 END "
        f"WHERE org_id = {{org}} AND seq IN ({a}, {b})",
        "UPDATE entries SET seq = -seq - 9 WHERE org_id = {org} AND seq < 0",
    )
    return _of("rows swapped", "links columns", *sql, seqs=[a, b])


def _swapped_columns(random: Random) -> Damage:
    (a, b), column = random.sample(range(COUNT), 2), random.choice(BYTES)
    sql = (
        f"UPDATE entries e SET {column} = o.{column} FROM entries o WHERE e.org_id = {{org}} AND "
        f"o.org_id = {{org}} AND (e.seq, o.seq) IN (({a}, {b}), ({b}, {a}))"
    )
    return _of(f"{column} swapped", CHECK_OF_COLUMN[column], sql, seqs=[a, b])


def _moved(random: Random) -> Damage:
    seq, to = random.randrange(COUNT), random.choice([-7, COUNT + 5, 1 << 50])
    sql = f"UPDATE entries SET seq = {to} WHERE org_id = {{org}} AND seq = {seq}"
    return _of("row moved away", "links", sql, seqs=[seq])


_COLUMNS: Final = (
    "org_id, seq, anchored_at, actor_tag, subject_tag, entry_hash, signature, leaf, payload"
)


def _planted(random: Random) -> Damage:
    seq = random.randrange(COUNT)
    to = random.choice([seq, seq, COUNT, COUNT + 7])
    what = random.choice(["leaf", "leaf", "'{}'::bytea"])
    sql = (
        f"INSERT INTO entries ({_COLUMNS}) SELECT org_id, {to}, anchored_at + interval '1 second', "
        f"actor_tag, subject_tag, entry_hash, signature, {what}, payload FROM entries "
        f"WHERE org_id = {{org}} AND seq = {seq}"
    )
    beyond = to >= COUNT
    checks = "head" if beyond else "links"
    return _of("row planted", checks, sql, seqs=[] if beyond else [to], anywhere=beyond)


def _head(random: Random) -> Damage:
    change = random.choice(
        [
            f"UPDATE heads SET entry_hash = {_flip('entry_hash', random.randrange(256))}",
            "UPDATE heads SET anchored_at = anchored_at + interval '1 microsecond'",
            f"UPDATE heads SET seq = seq + {random.choice([1, 9, 1 << 40])}",
            f"UPDATE heads SET seq = {random.randrange(COUNT - 1)}",
            "UPDATE heads SET seq = -9",
            "DELETE FROM heads",
        ]
    )
    return _of("head row", "head", f"{change} WHERE org_id = {{org}}", anywhere=True)


def _head_set_back(random: Random) -> Damage:
    sql = _set_head(random.randrange(COUNT - 1))
    return _of("head row set back", "head", sql, anywhere=True)


def _tile(random: Random) -> Damage:
    tile = random.randrange(3)
    where = f"org_id = {{org}} AND level = 0 AND tile = {tile}"
    first = f"start = (SELECT min(start) FROM tile_parts WHERE {where})"
    change = random.choice(
        [
            f"UPDATE tile_parts SET hashes = {_flip('hashes', random.randrange(1 << 14))} "
            f"WHERE {where} AND {first}",
            f"DELETE FROM tile_parts WHERE {where} AND {first}",
            f"DELETE FROM tile_parts WHERE {where}",
        ]
    )
    seqs = range(tile * 256, min(tile * 256 + 256, COUNT))
    return _of("tile", "tree", change, seqs=seqs)


def _upper_tile(random: Random) -> Damage:
    change = random.choice(
        [
            f"UPDATE tile_parts SET hashes = {_flip('hashes', random.randrange(1 << 14))}",
            "DELETE FROM tile_parts",
        ]
    )
    return _of("upper tile", "tree", f"{change} WHERE org_id = {{org}} AND level = 1")


def _checkpoint(random: Random) -> Damage:
    size = random.choice(SIZES)
    change = random.choice(
        [
            f"UPDATE checkpoints SET note = {_flip('note', random.randrange(1 << 14))}",
            "UPDATE checkpoints SET note = substr(note, 2)",
            f"UPDATE checkpoints SET root = {_flip('root', random.randrange(256))}",
            "UPDATE checkpoints SET size = size - 1",
            "DELETE FROM checkpoints",
        ]
    )
    sql = f"{change} WHERE org_id = {{org}} AND size = {size}"
    return _of("checkpoint", "checkpoints", sql, seqs=[size - 1], anywhere=size == COUNT)


def _tree_row(random: Random) -> Damage:
    change = random.choice(
        [
            f"UPDATE trees SET size = {random.randrange(COUNT)}",
            f"UPDATE trees SET root = {_flip('root', random.randrange(256))}",
            "DELETE FROM trees",
        ]
    )
    return _of("tree row", "tree", f"{change} WHERE org_id = {{org}}", anywhere=True)


def _anchor_leaf(random: Random) -> Damage:
    change = random.choice(
        [
            f"UPDATE anchor_leaves SET leaf = {_flip('leaf', random.randrange(256))}",
            f"UPDATE anchor_leaves SET nonce = {_flip('nonce', random.randrange(256))}",
            "DELETE FROM anchor_leaves",
        ]
    )
    sql = f"{change} WHERE org_id = {{org}} AND size = {random.choice(SIZES)}"
    return _of("anchor leaf", "anchors", sql)


def _anchor(random: Random) -> Damage:
    newest = "org_id = 0 AND size = (SELECT max(size) FROM checkpoints WHERE org_id = 0)"
    change, checks = random.choice(
        [
            (
                f"UPDATE checkpoints SET note = {_flip('note', random.randrange(1 << 15))}",
                "anchors",
            ),
            (f"UPDATE checkpoints SET root = {_flip('root', random.randrange(256))}", "anchors"),
            ("DELETE FROM checkpoints", "anchors classical_signature pq_signature"),
        ]
    )
    return _of("newest anchor", checks, f"{change} WHERE {newest}", anywhere=True)


def _anchor_tree(random: Random) -> Damage:
    table, change = random.choice(
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
    sql = f"{change} WHERE org_id = 0"
    return _of("tree of the anchor log", "anchors", sql, anywhere=table == "trees")


DAMAGES: Final[tuple[Callable[[Random], Damage], ...]] = (
    _flipped_column, _altered_column, _rehashed, _removed, _cut, _cut_with_head, _rolled_back,
    _swapped_rows, _swapped_columns, _moved, _planted, _head, _head_set_back, _tile, _upper_tile,
    _checkpoint, _tree_row, _anchor_leaf, _anchor, _anchor_tree,
)  # fmt: skip
