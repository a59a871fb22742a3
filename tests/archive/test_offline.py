"""An auditor verifies an archive with `quire-verify --log`, as its writer left it."""

from __future__ import annotations

import random
from pathlib import Path

from ledger.archive.targets import Target
from ledger.evidence.logs import verify_log_at
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Judgement
from ledger.verdict import NOT_CHECKED
from tests.support.archives import HISTORY, SignedTrail
from tests.support.trails import ORG

TRUST = Trust(HISTORY.pins())
POSITIONS = 200


def verify(folder: Path) -> Judgement:
    return verify_log_at(str(folder), TRUST)


async def archived(archived_trail: SignedTrail, target: Target, folder: Path) -> Path:
    """The folder of a trail that was archived in several steps."""
    for count in (3, 252, 1, 300, 44):
        await archived_trail.grow(count)
        await archived_trail.archive(target)
    return folder / "archive" / ORG


async def test_an_archive_verifies_offline(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    here = await archived(archived_trail, folder, tmp_path)
    verdict = verify(here)
    assert verdict.outcome == "verified", verdict.reasons
    held = {
        *("hashes", "links", "payloads", "tree", "checkpoints", "classical_signature"),
        "keys",
    }
    answers = verdict.answers()
    assert {check for check, answer in answers.items() if answer is True} == held
    assert verdict.reasons["payloads"][0].startswith("600 payloads match their leaves")
    assert verdict.warnings == ()
    anchors = verify(here.parent / "_anchors")
    assert anchors.outcome == "verified", anchors.reasons
    assert (anchors.pq_signature, anchors.links) == (True, NOT_CHECKED)


async def test_any_bit_of_an_archive(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    here = await archived(archived_trail, folder, tmp_path)
    chance = random.Random(5)
    files = sorted(path for path in here.rglob("*") if path.is_file())
    places = [(path, chance.randrange(8 * path.stat().st_size)) for path in files]
    while len(places) < POSITIONS:
        path = chance.choice(files)
        places.append((path, chance.randrange(8 * path.stat().st_size)))
    for path, bit in places:
        good = path.read_bytes()
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        path.chmod(0o644)
        path.write_bytes(changed)
        assert verify(here).outcome in {"refuted", "unreadable"}, (path, bit)
        path.write_bytes(good)
    assert verify(here).outcome == "verified"


async def test_missing_payloads(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    here = await archived(archived_trail, folder, tmp_path)
    packs = sorted(path for path in (here / "payloads").rglob("*") if path.is_file())
    packs[-1].unlink()
    verdict = verify(here)
    assert (verdict.outcome, verdict.payloads) == ("refuted", False)
    assert "are missing" in verdict.reasons["payloads"][0]
    for pack in packs[:-1]:
        pack.unlink()
    verdict = verify(here)
    assert (verdict.outcome, verdict.payloads) == ("refuted", False)
    assert verdict.reasons["payloads"][0] == "the payloads of 600 entries are missing"


async def test_any_archive_file_requires_the_payloads_and_the_history(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    here = await archived(archived_trail, folder, tmp_path)
    aside = tmp_path / "aside"
    aside.mkdir()
    parts = ("org.json", "history", "nonces", "payloads")
    for part in parts:
        (here / part).rename(aside / part)
    bare = verify(here)  # without payloads it is verified as an ordinary log
    assert (bare.outcome, bare.payloads) == ("verified", NOT_CHECKED)
    for part in parts:
        (aside / part).rename(here / part)
        verdict = verify(here)
        assert verdict.outcome == "refuted", part
        assert verdict.payloads is (part == "payloads")
        assert verdict.checkpoints is (part == "history")
        (here / part).rename(aside / part)


async def test_a_history_with_a_gap(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    here = await archived(archived_trail, folder, tmp_path)
    for log in (here, here.parent / "_anchors"):
        spans = sorted((log / "history").iterdir())
        assert len(spans) == 5
        for span in spans:
            data = span.read_bytes()
            span.unlink()
            verdict = verify(log)
            assert (verdict.outcome, verdict.checkpoints) == ("refuted", False), span
            first, last = (int(number) for number in span.name.split("-"))
            expected = f"history: no file has the checkpoints of sizes {first + 1} to {last}"
            assert verdict.reasons["checkpoints"] == (expected,)
            span.write_bytes(data)
        assert verify(log).outcome == "verified"


async def test_a_writer_that_was_stopped_before_it_moved_the_pointer(
    archived_trail: SignedTrail, folder: Target, tmp_path: Path
) -> None:
    here = await archived(archived_trail, folder, tmp_path)
    pointer = here / "checkpoint"
    older = sorted((here / "checkpoints").iterdir())[-2]
    pointer.chmod(0o644)
    pointer.write_bytes(older.read_bytes())
    verdict = verify(here)
    assert (verdict.outcome, verdict.about["entries"]) == ("verified", 600), verdict.reasons
    assert "newer" in verdict.warnings[0]
