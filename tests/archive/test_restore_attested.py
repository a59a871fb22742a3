"""A restore brings back timestamps and cosignatures that fit the anchor they were archived with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ledger.archive.format.layout import ANCHORS, CosignatureAt, TokenAt
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.restore.run import Restore
from ledger.archive.targets import Target
from ledger.archive.verification.anchoring import TrustedAttestors
from ledger.errors import RestoreRefused
from ledger.note import CosignatureSigner, NoteSignature, parse_note
from ledger.policy import parse_policy
from ledger.storage import bundle_reads
from ledger.timestamp import granted, query
from tests.support.archives import SignedTrail
from tests.support.clusters import Cluster, Database
from tests.support.restoring import restore_inputs, signed_trail_of
from tests.support.timestamp_authority import Mode, TimestampAuthority
from tests.support.trails import ORG

WITNESS = CosignatureSigner.from_seed("witness.test/one", b"\x05" * 32)
POLICY = parse_policy(f"witness one {WITNESS.vkey()} https://one.test\nquorum one\n".encode())


@pytest.fixture
def migrated_database(postgres_cluster: Cluster) -> Iterator[Database]:
    """A migrated database without rows."""
    database = postgres_cluster.migrated()
    yield database
    postgres_cluster.drop(database)


@pytest.fixture
async def anchor_notes(archived_trail: SignedTrail, folder: Target) -> dict[int, bytes]:
    """The notes of three archived anchors by size."""
    for _ in range(3):
        await archived_trail.grow(5)
    await archived_trail.archive(folder)
    rows = ArchiveReader.of_anchors(folder).history()
    return {row.size: row.note async for row in rows}


def token(authority: TimestampAuthority, message: bytes, mode: Mode = Mode.GOOD) -> bytes:
    return granted(authority.reply(query(message, 7), mode))


def line(note: bytes) -> bytes:
    blob = WITNESS.sign(parse_note(note).text, 1_700_000_000)
    return NoteSignature(WITNESS.name, WITNESS.key_id, blob).line()


async def put_attestation(folder: Target, place: TokenAt | CosignatureAt, data: bytes) -> None:
    await folder.put(f"{ANCHORS}/{place.key()}", data, None, False)


@pytest.mark.parametrize("trusting", [False, True], ids=["trusting nobody", "trusting"])
async def test_attestations_of_another_anchor_are_not_restored(
    archived_trail: SignedTrail,
    folder: Target,
    anchor_notes: dict[int, bytes],
    migrated_database: Database,
    shared_authority: TimestampAuthority,
    trusting: bool,
) -> None:
    assert sorted(anchor_notes) == [1, 2, 3]
    await put_attestation(folder, TokenAt(1, 10), token(shared_authority, anchor_notes[3]))
    await put_attestation(folder, TokenAt(2, 11), token(shared_authority, anchor_notes[2]))
    await put_attestation(
        folder, TokenAt(3, 12), token(shared_authority, anchor_notes[3], Mode.OTHER_CA)
    )
    await put_attestation(folder, TokenAt(3, 13), b"no token")
    await put_attestation(folder, CosignatureAt(2, 14, WITNESS.key_id.hex()), line(anchor_notes[2]))
    await put_attestation(folder, CosignatureAt(3, 15, WITNESS.key_id.hex()), line(anchor_notes[2]))
    attestors = (
        TrustedAttestors(shared_authority.ca_pem, POLICY) if trusting else TrustedAttestors()
    )
    restore = Restore(
        folder, migrated_database.owner_url, restore_inputs()._replace(attestors=attestors)
    )
    await restore.run([ORG])
    left_out = [text.split(" ", 1)[0].removeprefix(f"{ANCHORS}/") for text in restore.warnings]
    wrong = [TokenAt(1, 10).key(), TokenAt(3, 13).key()]
    if trusting:
        wrong.insert(1, TokenAt(3, 12).key())
        wrong.append(CosignatureAt(3, 15, WITNESS.key_id.hex()).key())
    assert left_out == wrong
    async with signed_trail_of(migrated_database, archived_trail) as again:
        tokens = await again.superuser.fetch("SELECT size, token FROM anchor_tokens ORDER BY size")
        assert [row[0] for row in tokens] == ([2] if trusting else [2, 3])
        lines = await again.superuser.fetch("SELECT size FROM anchor_cosignatures ORDER BY size")
        assert [row[0] for row in lines] == ([2] if trusting else [2, 3])
        anchor = await bundle_reads.attested_anchor(again.server, 0)
        assert anchor is not None
        assert anchor.size == 2


@pytest.mark.parametrize("lines", [0, 2])
async def test_a_malformed_signature_line_is_refused(
    folder: Target, anchor_notes: dict[int, bytes], migrated_database: Database, lines: int
) -> None:
    data = line(anchor_notes[2]) * lines or b"no line\n"
    await put_attestation(folder, CosignatureAt(2, 14, WITNESS.key_id.hex()), data)
    with pytest.raises(RestoreRefused, match="signature line"):
        await Restore(folder, migrated_database.owner_url, restore_inputs()).run([ORG])


async def test_a_token_without_its_anchor_is_not_evidence(
    archived_trail: SignedTrail,
    anchor_notes: dict[int, bytes],
    shared_authority: TimestampAuthority,
) -> None:
    await archived_trail.superuser.execute("DELETE FROM checkpoints WHERE org_id = 0 AND size = 1")
    await archived_trail.superuser.execute(
        "INSERT INTO anchor_tokens (size, gen_time, token) VALUES (1, now(), $1)",
        token(shared_authority, anchor_notes[1]),
    )
    anchor = await bundle_reads.attested_anchor(archived_trail.server, 0)
    assert anchor is not None
    assert anchor.size == 2
