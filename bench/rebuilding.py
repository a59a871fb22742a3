"""The row on rebuilding: from stored rows to the root of their tree, in one process."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha256
from statistics import median
from typing import Any, Final

import asyncpg
import uvloop

from bench import rows
from bench.figures import Figure, in_turns, ratio
from bench.logs import Log, SignedTrail
from bench.scope import Scope
from bench.stage import KEYRING, StageFailed
from ledger.core.checkpointing import RoundLimits
from ledger.core.checkpointing.following import Follower, LeafRange
from ledger.merkle import Edge
from ledger.storage.database import SIGNER_ROLE
from ledger.storage.signing import SignerConnection
from tests.support.clusters import as_role

_ROOT: Final = "SELECT root FROM trees WHERE org_id = $1"
_COPY_HEADER_BYTES: Final = 19
_ROW: Final = struct.Struct(">hi")
"""Header of a COPY row with one column: the number of columns, the bytes of the leaf."""


def tree_rebuild(scope: Scope, trail: SignedTrail) -> Figure:
    """Measure the signer's way from COPY to root, with all checks, against hashing alone."""
    log, runs = trail.log(scope), scope.runs(5)
    leaves, root = uvloop.run(_stored(log))

    def timed(rebuild: Callable[[Log], Coroutine[Any, Any, bytes]]) -> float:
        started = time.perf_counter()
        rebuilt = uvloop.run(rebuild(log))
        seconds = time.perf_counter() - started
        if rebuilt != root:
            raise StageFailed("the rebuilt tree has another root than the signed one")
        return log.size / seconds

    ours, theirs = in_turns(lambda: timed(_checked), lambda: len(leaves) / _hash(leaves), runs)
    extra: dict[str, float] = {
        "entries": log.size,
        "leaf_bytes": round(median(map(len, leaves))),
        "unchecked": round(median(timed(_unchecked) for _ in range(runs))),
    }
    return ratio("leaves/s", ours, theirs, extra)


async def _stored(log: Log) -> tuple[list[bytes], bytes]:
    connection = await asyncpg.connect(log.scratch.server_url)
    try:
        leaves = await rows.leaves(connection, log.org.org_id)
        return leaves, await connection.fetchval(_ROOT, log.org.org_id)
    finally:
        await connection.close()


async def _checked(log: Log) -> bytes:
    """Rebuild and check each row's place, hash, signature and link, in the signer's portions."""
    org, portion = log.org, RoundLimits().entries_per_org
    edge, link = Edge(), None
    async with SignerConnection.open(as_role(log.scratch.server_url, SIGNER_ROLE)) as connection:
        while edge.size < log.size:
            upper = min(edge.size + portion, log.size)
            place = LeafRange(org.org_id, org.slug, edge.size, upper, link, 0)
            follower = Follower([place], KEYRING)
            await connection.copy_leaves([(org.org_id, edge.size, upper)], 0, follower.feed)
            checked = follower.finish()[org.org_id]
            if checked.doubt is not None:
                raise StageFailed(f"the trail of the benchmark has a fault: {checked.doubt}")
            edge.extend(checked.hashes)
            link = checked.hashes[-1].hex()
    return edge.root()


async def _unchecked(log: Log) -> bytes:
    """Rebuild from the leaves' bytes without any check."""
    edge, rest = Edge(), b""

    async def take(chunk: bytes) -> None:
        nonlocal rest
        rest += chunk
        at = 0 if edge.size else _COPY_HEADER_BYTES
        hashes: list[bytes] = []
        while len(rest) - at >= _ROW.size:
            columns, length = _ROW.unpack_from(rest, at)
            end = at + _ROW.size + length
            if columns < 0 or end > len(rest):
                break
            hashes.append(sha256(b"\x00" + rest[at + _ROW.size : end]).digest())
            at = end
        if hashes:
            edge.extend(hashes)
            rest = rest[at:]

    connection = await asyncpg.connect(log.scratch.server_url)
    try:
        await rows.copy_leaves(connection, log.org.org_id, take)
    finally:
        await connection.close()
    return edge.root()


def _hash(leaves: Sequence[bytes]) -> float:
    """Return the seconds to hash the leaves."""
    started = time.perf_counter()
    for leaf in leaves:
        sha256(b"\x00" + leaf).digest()
    return time.perf_counter() - started
