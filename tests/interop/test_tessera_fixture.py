"""Our reader reads and verifies a log that transparency-dev/tessera wrote."""

from pathlib import Path

import pytest

from ledger.checkpoint import TreeHead, open_checkpoint
from ledger.errors import CheckpointError, NoteError
from ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from ledger.note import parse_vkey
from ledger.proof import TlogProof, parse_proof
from ledger.tiles import EntryTile, LogReport, StaticLog, verify_log

LOG = Path(__file__).parent.parent / "vectors/merkle/tessera_log"
ORIGIN = "example.com/log/testdata"
VKEY = f"{ORIGIN}+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
SIZES = range(16)


def read(path: str) -> bytes | None:
    file = LOG / path
    return file.read_bytes() if file.is_file() else None


def checkpoint(name: str) -> TreeHead:
    note = (LOG / name).read_bytes()
    return open_checkpoint(note, ORIGIN, [parse_vkey(VKEY)]).checkpoint


def test_the_newest_checkpoint_is_that_of_all_entries() -> None:
    assert checkpoint("checkpoint") == checkpoint("checkpoint.15")


@pytest.mark.parametrize("size", SIZES)
def test_the_log_verifies_at_each_of_its_sizes(size: int) -> None:
    head = checkpoint(f"checkpoint.{size}")
    assert head.size == size
    report = verify_log(read, size, head.root)
    assert report == LogReport(size, min(size, 1), size, (), complete=True)
    assert StaticLog(read, size).edge().root() == head.root


@pytest.mark.parametrize("size", SIZES[1:])
def test_each_checkpoint_is_consistent_with_all_before(size: int) -> None:
    log, head = StaticLog(read, size), checkpoint(f"checkpoint.{size}")
    for earlier in range(1, size + 1):
        before = checkpoint(f"checkpoint.{earlier}")
        proof = log.consistency_proof(earlier)
        verify_consistency(earlier, size, before.root, head.root, proof)


def test_every_entry_is_proved_by_a_file_of_its_own() -> None:
    note = (LOG / "checkpoint").read_bytes()
    head, log = checkpoint("checkpoint"), StaticLog(read, 15)
    entries = log.entries(EntryTile(0, 15))
    assert entries[:3] == [b"one", b"two", b"three"]
    for index, entry in enumerate(entries):
        file = TlogProof(index, tuple(log.inclusion_proof(index)), note).format()
        proof = parse_proof(file)
        assert proof.checkpoint == note
        verify_inclusion(proof.index, head.size, leaf_hash(entry), proof.hashes, head.root)


def test_the_log_does_not_verify_under_another_name_or_checkpoint() -> None:
    note = (LOG / "checkpoint").read_bytes()
    with pytest.raises((CheckpointError, NoteError)):
        open_checkpoint(note, "example.com/other", [parse_vkey(VKEY)])
    other = checkpoint("checkpoint.14")
    (fault,) = verify_log(read, 15, other.root).faults
    assert fault.kind == "root_mismatch"
