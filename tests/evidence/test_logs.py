"""`quire-verify --log` on a whole log in a folder."""

from __future__ import annotations

import random
from base64 import b64encode
from pathlib import Path

import pytest

from ledger.checkpoint import TreeHead
from ledger.evidence.logs import verify_log_at
from ledger.evidence.trust import Trust
from ledger.evidence.verdict import Judgement
from ledger.note import Ed25519Signer, Verifier, parse_note, sign_note
from ledger.policy import parse_policy
from ledger.tiles import Tile, pack_entries
from ledger.verdict import NOT_CHECKED
from tests.support.evidence import PINS, WITNESS, entries, write_log
from tests.support.signing import log_keys
from tests.support.static_logs import log_files

SIZE, OLDER = 700, (3, 256, 300, 511)
POSITIONS = 300
TESSERA = Path(__file__).parent.parent / "vectors/merkle/tessera_log"
TESSERA_KEY = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The folder of an org's log, with older checkpoints and the partial files of older sizes."""
    return write_log(tmp_path / "acme", entries(SIZE), OLDER)


def verify(folder: Path | str, *vkeys: str, trust: Trust = PINS) -> Judgement:
    return verify_log_at(str(folder), trust, vkeys)


def refuted(folder: Path, check: str, why: str = "") -> None:
    verdict = verify(folder)
    assert verdict.outcome == "refuted", verdict
    assert verdict.answers()[check] is False, verdict.reasons
    assert any(why in reason for reason in verdict.reasons[check]), verdict.reasons


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_an_orgs_log_verifies(log: Path) -> None:
    verdict = verify(log)
    assert verdict.outcome == "verified", verdict.reasons
    answers = verdict.answers()
    held = {"hashes", "links", "tree", "checkpoints", "classical_signature", "keys"}
    assert {check for check, answer in answers.items() if answer is True} == held
    assert f"{len(OLDER)} older checkpoints are of the same tree" in verdict.reasons["checkpoints"]
    assert verdict.reasons["links"] == (f"{SIZE - 1} entries follow the one before them",)
    assert verdict.about["keys"] == "pinned"
    assert verdict.warnings == ()


def test_the_keys_used_for_verification(log: Path) -> None:
    own = verify(log, trust=Trust())
    assert (own.outcome, own.about["keys"], own.unchecked) == (
        "incomplete",
        "the log's own",
        ("keys",),
    )
    given = log_keys().org_signers("acme")[0].vkey()
    assert verify(log, given, trust=Trust()).about["keys"] == "given"
    stranger = log_keys(2).org_signers("acme")[0].vkey()
    assert verify(log, stranger).classical_signature is False
    foreign = Trust(log_keys(2).public().pins())
    assert verify(log, trust=foreign).classical_signature is False
    (log / "log-keys.json").unlink()
    assert verify(log, trust=Trust()).outcome == "incomplete"
    whole = Trust(log_keys().public().pins(), history=log_keys().public())
    assert verify(log, trust=whole).outcome == "verified"


def relabelled(note: bytes, key: Verifier) -> bytes:
    """The note with its first signature attributed to ``key``: a signature covers only the text."""
    opened = parse_note(note)
    line = b64encode(key.key_id + opened.signatures[0].blob).decode()
    return opened.text + f"\n\u2014 {key.name} {line}\n".encode()


def test_the_log_of_another_org_under_the_key_given(log: Path) -> None:
    keys = log_keys()
    key = keys.org_signers("umbrella")[0].verifier()
    for note in (log / "checkpoint", *(log / "checkpoints").iterdir()):
        note.write_bytes(relabelled(note.read_bytes(), key))
    policy = parse_policy(b"quorum none\n")
    for trust in (Trust(), PINS, Trust(policy=policy)):
        verdict = verify(log, key.vkey(), trust=trust)
        assert (verdict.outcome, verdict.classical_signature) == ("refuted", False)
        (why,) = verdict.reasons["classical_signature"]
        assert f"of '{key.name}'" in why
        assert f"of '{keys.public().org_origin('acme')}'" in why
        assert verdict.witnesses is not True
    # With a key of the log beside it the check is made, and fails: that key did not sign this.
    own = keys.org_signers("acme")[0].vkey()
    assert verify(log, key.vkey(), own).classical_signature is False


def test_keys_of_other_logs_beside_the_right_one(log: Path) -> None:
    vkeys = [log_keys().org_signers(org)[0].vkey() for org in ("umbrella", "acme")]
    assert verify(log, *vkeys, trust=Trust()).outcome == "verified"


def test_a_log_of_tessera_verifies() -> None:
    verdict = verify(TESSERA, TESSERA_KEY, trust=Trust())
    assert verdict.outcome == "verified"
    assert "16 older checkpoints are of the same tree" in verdict.reasons["checkpoints"]
    assert verdict.links == NOT_CHECKED
    assert any("LICENSE" in warning for warning in verdict.warnings)


def test_an_anchor_log_needs_both_signatures(tmp_path: Path) -> None:
    keys = log_keys()
    leaves = [bytes([number]) * 32 for number in range(5)]
    files, root = log_files(leaves)
    text = TreeHead(keys.public().anchor_origin, 5, root).text()
    for path, data in (*files.items(), ("log-keys.json", keys.public().document())):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    note = tmp_path / "checkpoint"
    note.write_bytes(sign_note(text, [*keys.anchor_signers(), WITNESS], 1))
    policy = parse_policy(f"witness w1 {WITNESS.vkey()}\nquorum w1\n".encode())
    verdict = verify(tmp_path, trust=Trust(PINS.pins, policy))
    assert verdict.outcome == "verified", verdict.reasons
    assert (verdict.pq_signature, verdict.witnesses) == (True, True)
    note.write_bytes(sign_note(text, keys.anchor_signers()[:1]))
    assert verify(tmp_path, trust=Trust(PINS.pins, policy)).witnesses == NOT_CHECKED
    refuted(tmp_path, "pq_signature")


def test_any_bit_of_any_file(log: Path) -> None:
    chance = random.Random(3)
    files = sorted(path for path in log.rglob("*") if path.is_file())
    places = [(path, chance.randrange(8 * path.stat().st_size)) for path in files]
    while len(places) < POSITIONS:
        path = chance.choice(files)
        places.append((path, chance.randrange(8 * path.stat().st_size)))
    for path, bit in places:
        flip(path, bit)
        assert verify(log).outcome in {"refuted", "unreadable"}, (path, bit)
        flip(path, bit)
    assert verify(log).outcome == "verified"


def test_any_missing_file(log: Path) -> None:
    needed = [path for path in log.rglob("*") if path.is_file() and ".p" not in str(path)]
    for path in needed:
        if path.parent.name == "checkpoints":
            continue  # nothing records which older checkpoints there were
        data = path.read_bytes()
        path.unlink()
        assert verify(log).outcome != "verified", path
        path.write_bytes(data)


def test_a_log_of_two_histories(log: Path) -> None:
    other = [*entries(200), *entries(300, org="umbrella")[200:]]
    _, root = log_files([entry.leaf for entry in other])
    keys = log_keys()
    text = TreeHead(keys.public().org_origin("acme"), 300, root).text()
    note = log / "checkpoints" / f"{300:016}"
    note.write_bytes(sign_note(text, keys.org_signers("acme")))
    refuted(log, "checkpoints", "two histories")


def test_a_log_that_was_set_back(tmp_path: Path) -> None:
    folder = write_log(tmp_path, entries(300))
    newer = write_log(tmp_path / "newer", entries(310))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / f"{310:016}").write_bytes((newer / "checkpoint").read_bytes())
    refuted(folder, "tree")
    newest = write_log(tmp_path / "whole", entries(310), [300])
    pointer = (newest / "checkpoint").read_bytes()
    (newest / "checkpoints" / f"{310:016}").write_bytes(pointer)
    (newest / "checkpoint").write_bytes((newest / "checkpoints" / f"{300:016}").read_bytes())
    verdict = verify(newest)
    assert (verdict.outcome, verdict.about["entries"]) == ("verified", 310)
    assert "newer" in verdict.warnings[0]


def test_older_checkpoints_by_others(log: Path) -> None:
    note = log / "checkpoints" / f"{256:016}"
    origin = log_keys().public().org_origin("acme")
    forger = Ed25519Signer.from_seed(origin, bytes(32))
    note.write_bytes(sign_note(note.read_bytes().partition(b"\n\n")[0] + b"\n", [forger]))
    refuted(log, "checkpoints", "no known key")
    note.write_bytes((log / "checkpoints" / f"{300:016}").read_bytes())
    refuted(log, "checkpoints", "at size 300")


def test_signed_entries_that_are_no_trail(tmp_path: Path) -> None:
    made = entries(5)
    for name, changed in (
        ("swapped", [made[0], made[2], made[1], *made[3:]]),
        ("foreign", [*made[:4], entries(5, org="umbrella")[4]]),
        ("cut", made[1:]),
    ):
        folder = write_log(tmp_path / name, changed)
        refuted(folder, "hashes")


def test_files_that_no_checkpoint_covers_are_named(log: Path) -> None:
    (log / "notes.txt").write_text("hello")
    beyond = log / Tile(0, 9, 3).path()
    beyond.parent.mkdir(parents=True)
    beyond.write_bytes(bytes(96))
    verdict = verify(log)
    assert verdict.outcome == "verified"
    assert "2 files are not covered" in verdict.warnings[0]
    assert "notes.txt" in verdict.warnings[0]


def test_old_partial_files_must_say_the_same(log: Path) -> None:
    old = log / "tile/entries/001.p/44"
    assert old.is_file()
    old.write_bytes(pack_entries([b"x"] * 44))
    refuted(log, "tree", "differs from the start of the wider bundle")


def test_folders_that_are_not_logs(tmp_path: Path) -> None:
    assert verify(tmp_path).outcome == "unreadable"
    assert verify(tmp_path / "missing").outcome == "unreadable"
    (tmp_path / "checkpoint").write_bytes(b"\xff" * 100)
    assert verify(tmp_path).outcome == "unreadable"
    assert verify(TESSERA, "no vkey").outcome == "unreadable"


def test_too_large_files_are_not_read(log: Path) -> None:
    with (log / "checkpoint").open("ab") as file:
        file.truncate(1 << 30)
        verdict = verify(log)
    assert verdict.outcome == "unreadable"
    assert "the limit for this file" in (verdict.unreadable or "")
