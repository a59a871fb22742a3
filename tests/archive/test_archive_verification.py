"""Archive verification without the database: an intact archive verifies, each alteration is found."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.archive.format.layout import ANCHORS
from ledger.archive.reading.reader import ArchiveReader
from ledger.archive.targets import Target
from ledger.archive.verification.findings import ArchiveVerdict
from ledger.archive.verification.run import (
    ArchiveVerification,
    ArchiveVerificationOptions,
    LiveTrail,
    verify_archive,
)
from ledger.chain import EMPTY_HEAD, extend
from ledger.entry import to_datetime
from ledger.keys import SigningKeyring
from ledger.log_keys import KeyPins, KeySeeds, rotate
from ledger.storage.log_keys import publish_history
from tests.support import blocks
from tests.support.archives import HISTORY, KEYS, SignedTrail
from tests.support.blocks import edit, remove
from tests.support.evidence_damage import SCALE, damage_files
from tests.support.orgs import add_org
from tests.support.signing import checkpointer, log_keys
from tests.support.tampering import Tampering, change, statement
from tests.support.trails import KEY, NOW_US, ORG, ORG_ID, RING, draft

POSITIONS = 350 * SCALE
DAMAGES = 60 * SCALE

Record = Callable[[str, object], None]
PINS = HISTORY.pins()


async def verified(
    folder: Target,
    keyring: SigningKeyring | None = None,
    pins: KeyPins | None = PINS,
    processes: int = 0,
) -> tuple[ArchiveVerdict, ArchiveVerdict]:
    return await verify_archive(
        folder, ORG, ArchiveVerificationOptions(pins=pins, processes=processes), keyring=keyring
    )


@pytest.fixture
async def archived(archived_trail: SignedTrail, folder: Target) -> SignedTrail:
    """A trail of 600 entries, archived at five sizes."""
    for count in (1, 4, 251, 4, 340):
        await archived_trail.grow(count)
        await archived_trail.archive(folder)
    return archived_trail


@contextmanager
def flipped(path: Path, position: int, bit: int) -> Iterator[None]:
    """Change one bit of a file while the block runs."""
    before = path.read_bytes()
    path.chmod(0o644)
    changed = bytearray(before)
    changed[position] ^= 1 << bit
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("processes", [0, 2])
async def test_an_intact_archive_is_verified(
    archived: SignedTrail, folder: Target, processes: int
) -> None:
    trail, anchors = await verified(folder, RING, processes=processes)
    assert trail.faults == anchors.faults == ()
    assert (trail.size, trail.entries) == (600, 600)
    assert trail.checkpoint is trail.tree is trail.payloads is trail.signatures is True
    assert trail.history is trail.anchors is True
    assert trail.database == trail.external_time == trail.witnesses == "not_checked"
    assert trail.unanchored == 0
    assert (anchors.tree, anchors.payloads, anchors.size) == (True, "not_checked", 5)


async def test_without_the_signing_keys_signatures_are_not_checked(
    archived: SignedTrail, folder: Target
) -> None:
    trail, _ = await verified(folder)
    assert trail.valid
    assert trail.signatures == "not_checked"


async def test_without_a_pin_an_archive_only_agrees_with_itself(
    archived: SignedTrail, folder: Target
) -> None:
    for found in await verified(folder, RING, pins=None):
        assert (found.verdict, found.keys, found.valid) == ("incomplete", "not_checked", False)
        assert found.unchecked == ("keys",)
        assert "--trust keys.json" in found.warnings[0]


async def test_keys_other_than_the_pinned_ones_are_refused(
    archived: SignedTrail, folder: Target
) -> None:
    trail, _ = await verified(folder, pins=log_keys(2).public().pins())
    assert (trail.keys, trail.checkpoint, trail.tree) == (False, "not_checked", "not_checked")
    assert trail.verdict == "refuted"


async def test_an_idle_trail_survives_a_rotation_that_was_anchored_through_another(
    archived: SignedTrail, folder: Target
) -> None:
    """The idle trail's folder keeps an older key history than the anchors are signed with."""
    later = rotate(KEYS, KeySeeds(b"\x21" * 32, b"\x22" * 32), NOW_US + 1)
    await publish_history(archived.superuser, later.public())
    await add_org(archived.server, ORG_ID + 1, "busy", "Busy", "plain", b"")
    rows, head = extend(ORG_ID + 1, "busy", EMPTY_HEAD, [draft(b"payload")], NOW_US, KEY)
    await blocks.write(archived.superuser, rows)
    await archived.superuser.execute(
        "UPDATE heads SET seq = $2, entry_hash = $3, anchored_at = $4 WHERE org_id = $1",
        *(ORG_ID + 1, head.seq, head.entry_hash, to_datetime(head.anchored_us)),
    )
    async with checkpointer(archived.database.server_url, archived.memory, later) as signer:
        assert (await signer.round()).stopped == []
        assert await signer.anchor() is not None
    writer = archived.writer(folder)
    assert (await writer.archive_anchors()).objects
    reader, anchors = ArchiveReader(folder, ORG), ArchiveReader.of_anchors(folder)
    assert len((await reader.key_history()).keys) == 1
    assert len((await anchors.key_history()).keys) == 2
    for pins in (PINS, later.public().pins()):
        for found in await verified(folder, RING, pins=pins):
            assert (found.verdict, found.faults) == ("verified", ())
    # A history that does not continue the trail's own history is not trusted.
    path = Path(folder.url.removeprefix("file://")) / ANCHORS / "log-keys.json"
    path.chmod(0o644)
    path.write_bytes(log_keys(5).public().document())
    trail, _ = await verified(folder, RING, pins=None)
    assert trail.anchors is False


async def test_every_flipped_bit_is_found(
    archived: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    root = tmp_path / "archive"
    files = [path for org in (ORG, ANCHORS) for path in sorted((root / org).rglob("*"))]
    files = [path for path in files if path.is_file()]
    choose = random.Random(4)
    # Each object is damaged several times, whatever its length.
    for number in range(POSITIONS):
        path = files[number % len(files)]
        position, bit = choose.randrange(path.stat().st_size), choose.randrange(8)
        log = path.relative_to(root).parts[0]
        with flipped(path, position, bit):
            verdict = await ArchiveVerification(
                folder, log, ArchiveVerificationOptions(pins=PINS, processes=0)
            ).run()
        assert not verdict.valid, (path, position, bit)
        assert verdict.faults, path
    again = await verified(folder, RING)
    assert all(verdict.valid for verdict in again)


async def test_random_damage(
    archived: SignedTrail, folder: Target, tmp_path: Path, record_property: Record
) -> None:
    root = tmp_path / "archive"
    chance, verdicts = random.Random(24), Counter[str]()
    for number in range(DAMAGES):
        log = (ORG, ORG, ANCHORS)[number % 3]
        files = sorted(path for path in (root / log).rglob("*") if path.is_file())
        what, path, before = damage_files(root, files, chance)
        found = await ArchiveVerification(
            folder, log, ArchiveVerificationOptions(pins=PINS, processes=0)
        ).run()
        path.write_bytes(before)
        verdicts[found.verdict.value] += 1
        assert found.valid is (found.verdict == "verified")
        if found.valid:
            # Notes that are also in the history, and parts of files that were packed whole later.
            assert what.startswith("lost"), what
            assert "/checkpoints/" in what or "/payloads/" in what or ".p/" in what, what
    record_property("damages", dict(verdicts))
    assert verdicts["refuted"] > DAMAGES // 2


async def test_a_missing_object_is_named(
    archived: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    root = tmp_path / "archive" / ORG
    harmless = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        path.unlink()
        verdict = await ArchiveVerification(
            folder, ORG, ArchiveVerificationOptions(pins=PINS, processes=0)
        ).run()
        path.write_bytes(data)
        if verdict.valid:
            harmless.append(str(path.relative_to(root)))
    # Notes that are also in the history, and parts of files that were packed whole later.
    assert all(key.startswith(("checkpoints/", "payloads/")) for key in harmless)
    assert not any(key.endswith("000-255") or "/002/" in key for key in harmless)


async def against_database(archived: SignedTrail, folder: Target) -> ArchiveVerdict:
    live = LiveTrail(archived.server, ORG_ID)
    how = ArchiveVerificationOptions(pins=PINS, processes=0)
    return await ArchiveVerification(folder, ORG, how, live=live).run()


async def test_the_live_database_holds_the_same(archived: SignedTrail, folder: Target) -> None:
    await archived.grow(7)  # entries that are not archived yet are no fault
    verdict = await against_database(archived, folder)
    assert (verdict.valid, verdict.database) == (True, True)


@pytest.mark.parametrize(
    ("tampering", "words"),
    [
        (change(edit, 300, payload=b"other"), "entry 300 has another payload"),
        (change(edit, 5, leaf=b"other"), "entry 5 has another leaf"),
        (change(edit, 599, signature=b"of another length"), "entry 599 has another"),
        (change(remove, 256), "entry 256 is not in the database"),
        (
            statement("DELETE FROM checkpoints WHERE size = 260 AND org_id = $1"),
            "size 260 differs",
        ),
        (
            statement("UPDATE checkpoints SET note = 'x' WHERE size = 600 AND org_id = $1"),
            "size 600 differs",
        ),
        (
            statement(
                "INSERT INTO checkpoints SELECT org_id, 599, root, note FROM checkpoints "
                "WHERE size = 600 AND org_id = $1"
            ),
            "the checkpoint of size 599 in the database is not archived",
        ),
    ],
    ids=str,
)
async def test_a_database_that_was_altered_differs(
    archived: SignedTrail, folder: Target, tampering: Tampering, words: str
) -> None:
    await tampering(archived.superuser, ORG_ID)
    verdict = await against_database(archived, folder)
    assert verdict.database is False
    assert verdict.tree is verdict.payloads is verdict.checkpoint is True
    assert any(words in fault.reason for fault in verdict.faults), verdict.faults


async def test_an_archive_that_was_set_back(
    archived: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    """The archive is set back to an earlier checkpoint, with or without its later objects."""
    root = tmp_path / "archive" / ORG
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    newest, older = sorted((root / "checkpoints").iterdir())[:1:-1][:2]
    (root / "checkpoint").write_bytes(older.read_bytes())
    alone, _ = await verified(folder, RING)
    assert (alone.verdict, alone.checkpoint, alone.faults) == ("incomplete", "not_checked", ())
    assert "was not checked" in alone.warnings[-1]
    newest.unlink()  # the history has this checkpoint too
    assert (await verified(folder, RING))[0].verdict == "incomplete"
    held = await against_database(archived, folder)
    assert (held.verdict, held.database) == ("refuted", False)
    assert "600 entries were archived here" in held.faults[0].reason
    for path in sorted((root / "history").iterdir())[-1:]:
        path.unlink()
    assert (await against_database(archived, folder)).database is False


async def test_an_anchor_log_that_was_set_back(
    archived: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    anchors = tmp_path / "archive" / ANCHORS
    for path in anchors.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    older = min((anchors / "checkpoints").iterdir())
    (anchors / "checkpoint").write_bytes(older.read_bytes())
    trail, log = await verified(folder, RING)
    assert (trail.verdict, trail.anchors, log.verdict) == ("refuted", False, "incomplete")
    assert "beyond the archived anchor log" in trail.faults[0].reason
