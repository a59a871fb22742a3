"""Verification of a forked, cut, edited or forged anchor log, and of its attestations."""

from __future__ import annotations

from typing import Any

import pytest

from ledger import merkle
from ledger.anchor import blind
from ledger.checkpoint import TreeHead
from ledger.core.attesting.timestamping import Tsa
from ledger.core.verification.work.trust import TrailTrust
from ledger.log_keys import LogKeys
from ledger.note import CosignatureSigner, Ed25519Key, Signer, parse_note, sign_note
from tests.support.signing import log_keys
from tests.support.timestamp_authority import TimestampAuthority
from tests.support.trails import ORG, ORG_ID
from tests.verification.signed import FAR, KEYS, SignedTree, faults, kinds

FOREIGN = log_keys(2)
WITNESS = CosignatureSigner("witness.test/w", Ed25519Key(b"w" * 32))
OTHER = CosignatureSigner("other.test/o", Ed25519Key(b"o" * 32))
POLICY = f"witness w {WITNESS.vkey()}\nquorum w\n".encode()


def anchor_of(size: int, root: bytes, signers: tuple[Signer, ...]) -> bytes:
    return sign_note(TreeHead(KEYS.public().anchor_origin, size, root).text(), signers, 1)


async def replace(signed: SignedTree, size: int, note: bytes, root: bytes) -> None:
    """Replace the anchor of this size."""
    status = await signed.superuser.connection.execute(
        "UPDATE checkpoints SET note = $2, root = $3 WHERE org_id = 0 AND size = $1",
        size,
        note,
        root,
    )
    assert status == "UPDATE 1"


async def leaves(signed: SignedTree) -> list[bytes]:
    return [row[0] for row in await signed.fetch("SELECT leaf FROM anchor_leaves ORDER BY idx")]


async def test_a_forked_system_log(signed: SignedTree) -> None:
    """An anchor is signed with the right keys over another tree than the stored one."""
    other = merkle.root([merkle.leaf_hash(b"x" * 32)] * 3)
    await replace(signed, 3, anchor_of(3, other, KEYS.anchor_signers()), other)
    result = await signed.verify()
    assert faults(result) == [(-1, "anchor_forked")]
    checks = result.checks
    assert (checks.anchors, checks.classical_signature, checks.pq_signature) == (False, True, True)
    assert (checks.tree, checks.checkpoints) == (True, True)


async def test_a_leaf_of_the_system_log_exchanged(signed: SignedTree) -> None:
    ((note,),) = await signed.fetch(
        "SELECT note FROM checkpoints WHERE org_id = $1 AND size = 1400", ORG_ID
    )
    nonce = bytes(32)
    await signed.superuser.connection.execute(
        "UPDATE anchor_leaves SET nonce = $1, leaf = $2 WHERE idx = 1", nonce, blind(nonce, note)
    )
    assert faults(await signed.verify()) == [(-1, "anchor_rewritten")]


@pytest.mark.parametrize("column", ["nonce", "leaf"])
async def test_a_bit_of_a_leaf(signed: SignedTree, column: str) -> None:
    await signed.execute(
        f"UPDATE anchor_leaves SET {column} = set_byte({column}, 5, get_byte({column}, 5) # 1) "
        "WHERE idx = 2"
    )
    result = await signed.verify()
    assert (2_099, "anchor_leaf_mismatch") in faults(result)
    assert kinds(result) <= {"anchor_leaf_mismatch", "anchor_rewritten"}
    assert (result.checks.anchors, result.checks.checkpoints) == (False, True)


async def test_leaves_that_were_removed(signed: SignedTree) -> None:
    await signed.execute("DELETE FROM anchor_leaves WHERE idx = 1")
    assert faults(await signed.verify()) == [(-1, "anchor_leaf_missing")]
    await signed.execute("DELETE FROM anchor_leaves WHERE idx >= 3")
    assert kinds(await signed.verify()) == {"anchor_leaf_missing", "anchor_below_signed"}


async def test_removed_leaves_are_missed_from_ranges_of_young_entries(
    signed: SignedTree,
) -> None:
    """A checkpoint without an anchor leaf may wait for its anchor, unless leaves are missing."""
    await signed.execute("DELETE FROM anchor_leaves WHERE idx = 4")
    for table in ("checkpoints", "trees", "tile_parts", "anchor_leaves"):
        result = await signed.verify(from_seq=100, to_seq=3_400, limits=FAR)
        assert (table, result.verdict) == (table, "refuted")
        assert "anchor_leaf_missing" in kinds(result)
        await signed.execute(f"DELETE FROM {table} WHERE org_id = {ORG_ID}")
    result = await signed.verify(from_seq=100, to_seq=200, limits=FAR)
    assert (result.verdict, result.checks.anchors) == ("refuted", False)
    known = await signed.verify(signed.trust(), from_seq=100, to_seq=200, limits=FAR)
    assert (known.verdict, known.checks.tree) == ("refuted", "not_checked")


async def test_tiles_of_the_system_log(signed: SignedTree) -> None:
    await signed.execute(
        "UPDATE tile_parts SET hashes = set_byte(hashes, 3, get_byte(hashes, 3) # 1) "
        "WHERE org_id = 0 AND start = 0"
    )
    assert faults(await signed.verify()) == [(-1, "anchor_tile_mismatch")]
    await signed.execute("DELETE FROM tile_parts WHERE org_id = 0")
    assert faults(await signed.verify()) == [(-1, "anchor_tile_missing")]


def _classical(keys: LogKeys) -> tuple[Signer, ...]:
    return keys.anchor_signers()[:1]


def _pq(keys: LogKeys) -> tuple[Signer, ...]:
    return keys.anchor_signers()[1:]


FORGED: list[tuple[tuple[Signer, ...], set[str]]] = [
    (FOREIGN.anchor_signers(), {"anchor_foreign", "anchor_pq_signature"}),
    (_classical(KEYS), {"anchor_pq_signature"}),
    (_pq(KEYS), {"anchor_foreign"}),
    (_classical(KEYS) + _pq(FOREIGN), {"anchor_pq_signature"}),
    (_classical(FOREIGN) + _pq(KEYS), {"anchor_foreign"}),
]


@pytest.mark.parametrize(("signers", "named"), FORGED)
async def test_an_anchor_without_both_signatures(
    signed: SignedTree, signers: tuple[Signer, ...], named: set[str]
) -> None:
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in (await leaves(signed))[:4]])
    await replace(signed, 4, anchor_of(4, root, signers), root)
    result = await signed.verify()
    assert kinds(result) == named
    checks = result.checks
    assert checks.anchors is False
    assert checks.pq_signature is ("anchor_pq_signature" not in named)
    assert checks.classical_signature is ("anchor_foreign" not in named)


async def test_signatures_of_two_keys_of_the_log(signed: SignedTree) -> None:
    mine, foreign = TrailTrust.of(KEYS.public(), ORG), TrailTrust.of(FOREIGN.public(), ORG)
    both = TrailTrust(
        trail=mine.trail,
        anchors=mine.anchors.__class__(
            mine.anchors.origin, [*mine.anchors.keys, *foreign.anchors.keys]
        ),
    )
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in (await leaves(signed))[:4]])
    await replace(signed, 4, anchor_of(4, root, _classical(KEYS) + _pq(FOREIGN)), root)
    assert kinds(await signed.verify(both)) == {"anchor_foreign"}


async def test_bits_of_an_anchor(signed: SignedTree) -> None:
    ((note,),) = await signed.fetch("SELECT note FROM checkpoints WHERE org_id = 0 AND size = 5")
    text = parse_note(note).text
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in await leaves(signed)])
    first, second = note[len(text) + 1 :].splitlines(keepends=True)
    for at, line, named in ((1, first, "anchor_altered"), (2, second, "anchor_pq_signature")):
        edited = line[:-20] + (b"A" if line[-20:-19] != b"A" else b"B") + line[-19:]
        lines = [edited, second] if at == 1 else [first, edited]
        await replace(signed, 5, text + b"\n" + b"".join(lines), root)
        assert named in kinds(await signed.verify())


async def test_an_anchor_set_back(signed: SignedTree) -> None:
    await signed.execute("DELETE FROM checkpoints WHERE org_id = 0 AND size = 5")
    await signed.execute("DELETE FROM tile_parts WHERE org_id = 0 AND start = 4")
    await signed.execute("UPDATE trees SET size = 4 WHERE org_id = 0")
    assert kinds(await signed.verify()) == {"anchor_tree_mismatch"}
    await signed.execute("DELETE FROM anchor_leaves WHERE idx = 4")
    assert "anchor_rolled_back" in kinds(await signed.verify(signed.trust()))


async def add_cosignature(signed: SignedTree, size: int, line: bytes) -> None:
    await signed.superuser.connection.execute(
        "INSERT INTO anchor_cosignatures (size, witness, line) VALUES ($1, $2, $3)",
        size,
        WITNESS.name,
        line,
    )


async def line_over(signed: SignedTree, size: int, signer: CosignatureSigner = WITNESS) -> bytes:
    ((note,),) = await signed.fetch(
        "SELECT note FROM checkpoints WHERE org_id = 0 AND size = $1", size
    )
    return signer.line(parse_note(note).text, 1_767_268_900)


def trust(**others: Any) -> TrailTrust:
    return TrailTrust.of(KEYS.public(), ORG, **others)


async def test_cosignatures(signed: SignedTree) -> None:
    watched = trust(witnesses=POLICY)
    nobody = await signed.verify(watched)
    assert (nobody.verdict, nobody.checks.witnesses) == ("incomplete", "not_checked")
    await add_cosignature(signed, 3, await line_over(signed, 3, OTHER))
    assert (await signed.verify(watched)).checks.witnesses == "not_checked"
    await add_cosignature(signed, 3, await line_over(signed, 3))
    old = await signed.verify(watched)  # the entries after the cosigned ones have waited for long
    assert (old.verdict, old.checks.witnesses) == ("incomplete", "not_checked")
    assert "2100" in old.reasons["witnesses"]
    part = await signed.verify(watched, from_seq=1_500, to_seq=2_099)
    assert (part.verdict, part.checks.witnesses) == ("verified", True)
    await add_cosignature(signed, 5, await line_over(signed, 5))
    result = await signed.verify(watched)
    assert (result.valid, result.checks.witnesses) == (True, True)
    assert (await signed.verify()).checks.witnesses == "not_checked"
    await add_cosignature(signed, 4, await line_over(signed, 5))
    result = await signed.verify(watched)
    assert (faults(result), result.checks.witnesses) == ([(-1, "cosignature_invalid")], False)


async def test_timestamps(signed: SignedTree, timestamp_authority: TimestampAuthority) -> None:
    pem = timestamp_authority.ca_pem
    tsa = Tsa(timestamp_authority.url, pem)
    ((note,),) = await signed.fetch("SELECT note FROM checkpoints WHERE org_id = 0 AND size = 4")
    token, said = await tsa.stamp(note)
    await tsa.close()
    stamped = trust(authorities=pem)
    unstamped = await signed.verify(stamped)
    assert (unstamped.verdict, unstamped.checks.external_time) == ("incomplete", "not_checked")
    add = "INSERT INTO anchor_tokens (size, gen_time, token) VALUES ($1, $2, $3)"
    await signed.superuser.connection.execute(add, 4, said.gen_time, token)
    result = await signed.verify(stamped)
    assert (result.verdict, result.checks.external_time) == ("incomplete", "not_checked")
    part = await signed.verify(stamped, from_seq=2_000, to_seq=2_799)
    assert (part.verdict, part.checks.external_time) == ("verified", True)
    young = await signed.verify(stamped, limits=FAR)
    assert (young.verdict, young.checks.external_time) == ("verified", True)
    await signed.superuser.connection.execute(add, 5, said.gen_time, token)
    await signed.superuser.connection.execute(add, 77, said.gen_time, token)
    result = await signed.verify(stamped)
    assert faults(result) == [(-1, "timestamp_invalid")] * 2
    assert (result.checks.external_time, result.checks.anchors) == (False, True)
