"""Random damage to evidence: to a bundle with a matching manifest, and to the files of a log.

Each damage names the checks that it must make fail; the verdict is never verified.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from ledger.evidence import members
from tests.support.evidence import members_of, repack

SCALE = int(os.environ.get("DAMAGES", "1"))
"""A factor on the number of damages tried in the suite; `make test-damage` raises it."""
_UNSIGNED = {members.README, members.STATEMENT, members.PAGE, members.MANIFEST, members.NAMES}


_CHECKS = {
    "leaves/*": {"hashes|tree|links"},
    "payloads/*": {"payloads"},
    "proofs/*": {"tree"},
    members.LOG_KEYS: {"keys"},
    "anchors/*.cosignatures": {"witnesses|anchors"},
    "anchors/*.tst": {"external_time"},
    "anchors/*": {"anchors|classical_signature|pq_signature"},
    "checkpoints/*.note": {"classical_signature|checkpoints|tree|anchors"},
    "checkpoints/*": {"anchors"},
}


class Damage(NamedTuple):
    """The damage's description, the damaged bundle, and groups of checks that must not all hold."""

    what: str
    bundle: bytes
    not_true: frozenset[str]


def bundle_damages(bundle: bytes, count: int, seed: int) -> Iterator[Damage]:
    """``count`` damaged bundles, each with one to three members changed."""
    chance = random.Random(seed)
    held = members_of(bundle)
    names = [name for name in held if name not in _UNSIGNED]
    made = 0
    while made < count:
        changed, what, not_true = dict(held), [], set[str]()
        for name in chance.sample(names, chance.choice([1, 1, 1, 2, 3])):
            kind, data = _changed(chance, held[name], name, held)
            if data == held[name]:
                continue
            changed[name] = data
            what.append(f"{kind} {name}")
            not_true |= _checks_of(name)
        if what:
            made += 1
            yield Damage(", ".join(what), repack(changed), frozenset(not_true))


def _changed(
    chance: random.Random, data: bytes, name: str, held: Mapping[str, bytes]
) -> tuple[str, bytes]:
    kind = chance.choice(["flip", "flip", "cut", "extend", "line lost", "line twice", "swap", "of"])
    lines = data.splitlines(keepends=True)
    if kind == "flip" and data:
        bit = chance.randrange(8 * len(data))
        return kind, flipped(data, bit)
    if kind == "cut":
        return kind, data[: chance.randrange(len(data) + 1)]
    if kind == "line lost" and lines:
        del lines[chance.randrange(len(lines))]
    elif kind == "line twice" and lines:
        at = chance.randrange(len(lines))
        lines.insert(at, lines[at])
    elif kind == "swap" and len(lines) > 1:
        one, two = chance.sample(range(len(lines)), 2)
        lines[one], lines[two] = lines[two], lines[one]
    elif kind == "of":
        folder = name.partition("/")[0]
        other = chance.choice([one for one in held if one.partition("/")[0] == folder])
        return f"{other} as", held[other]
    else:
        return kind, data + chance.randbytes(chance.randrange(1, 40))
    return kind, b"".join(lines)


def _checks_of(name: str) -> set[str]:
    """Groups of checks for a member: if it is damaged, at least one check of each group is not true."""
    return next(checks for pattern, checks in _CHECKS.items() if fnmatch(name, pattern))


def holds(not_true: frozenset[str], answers: Mapping[str, object]) -> bool:
    """Whether at least one check of each group is not true."""
    return all(any(answers[check] is not True for check in one.split("|")) for one in not_true)


def flipped(data: bytes, bit: int) -> bytes:
    """The data with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damage_files(root: Path, files: list[Path], chance: random.Random) -> tuple[str, Path, bytes]:
    """Damage one file in place; returns the description, the file, and its original bytes."""
    while True:
        path = chance.choice(files)
        before = path.read_bytes()
        kind = chance.choice(["flip", "flip", "cut", "extend", "lost", "of another"])
        after: bytes | None = before
        if kind == "flip":
            after = flipped(before, chance.randrange(8 * len(before)))
        elif kind == "cut":
            after = before[: chance.randrange(len(before))]
        elif kind == "extend":
            after = before + chance.randbytes(chance.randrange(1, 40))
        elif kind == "lost":
            after = None
        else:
            alike = [one for one in files if one.parent == path.parent]
            after = chance.choice(alike).read_bytes()
        if after == before:
            continue
        path.chmod(0o644)
        if after is None:
            path.unlink()
        else:
            path.write_bytes(after)
        return f"{kind} {path.relative_to(root)}", path, before
