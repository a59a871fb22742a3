"""The file of acknowledged heads: shared by processes, kept through crashes, refused when damaged."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.chain import ChainHead
from ledger.core.sequencer import (
    HEADS_FILE,
    AcknowledgedHeads,
    ForeignHeads,
    HeadMemoryUnavailable,
)
from ledger.core.sequencer.heads.acknowledged import GROWTH_BYTES
from ledger.core.sequencer.heads.records import RECORD_BYTES, SLOT_BYTES
from tests.support.appending import IDENTITY

OTHER = bytes(32)


def head(seq: int) -> ChainHead:
    return ChainHead(seq, seq.to_bytes(32, "big"), 1_700_000_000_000_000 + seq)


@contextlib.contextmanager
def opened(folder: Path, identity: bytes = IDENTITY) -> Iterator[AcknowledgedHeads]:
    with contextlib.closing(AcknowledgedHeads(folder / HEADS_FILE, identity)) as heads:
        yield heads


def test_a_process_sees_what_another_acknowledged(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        assert (one.is_new, other.is_new) == (True, False)
        assert one.get(7) is None
        one.remember({7: head(3), 8: head(0)})
        assert (other.get(7), other.get(8)) == (head(3), head(0))
        other.remember({8: head(1), 9: head(5)})
        assert (one.get(8), one.get(9)) == (head(1), head(5))
    assert stat.S_IMODE((tmp_path / HEADS_FILE).stat().st_mode) == 0o600


def test_an_older_head_replaces_no_newer_one(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        one.remember({7: head(3)})
        other.remember({7: head(5)})
        one.remember({7: head(4)})
        assert one.get(7) == other.get(7) == head(5)
        one.reset(7, head(2))
        assert one.get(7) == other.get(7) == head(2)
        other.remember({7: head(3)})
        assert one.get(7) == head(3)


def test_thousands_of_orgs_grow_the_file_for_every_process(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as other:
        for first in range(1, 3_000, 1_000):
            one.remember({org_id: head(org_id) for org_id in range(first, first + 500)})
            other.remember({org_id: head(org_id) for org_id in range(first + 500, first + 1_000)})
        assert all(one.get(org_id) == head(org_id) for org_id in range(1, 3_001))
    with opened(tmp_path) as later:
        assert all(later.get(org_id) == head(org_id) for org_id in range(1, 3_001))
    size = (tmp_path / HEADS_FILE).stat().st_size
    assert size <= 3_000 * SLOT_BYTES + SLOT_BYTES + GROWTH_BYTES


@pytest.mark.parametrize("at", range(0, RECORD_BYTES, 8))
def test_a_torn_record_leaves_the_older_head(tmp_path: Path, at: int) -> None:
    with opened(tmp_path) as heads:
        for seq in (1, 2, 3):
            heads.remember({7: head(seq)})
        raw = bytearray((tmp_path / HEADS_FILE).read_bytes())
        slot = memoryview(raw)[SLOT_BYTES : 2 * SLOT_BYTES]
        newest = max((0, 1), key=lambda n: slot[n * RECORD_BYTES + 8])
        slot[newest * RECORD_BYTES + at : (newest + 1) * RECORD_BYTES] = bytes(RECORD_BYTES - at)
        _overwrite(tmp_path, bytes(raw))
        assert heads.get(7) in ({head(2)} if at < 60 else {head(2), head(3)})
        heads.remember({7: head(4)})
        assert heads.get(7) == head(4)


def test_a_slot_whose_first_write_did_not_end_is_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as heads:
        heads.remember({7: head(1), 8: head(2)})
        raw = (tmp_path / HEADS_FILE).read_bytes()
        at = 2 * SLOT_BYTES
        _overwrite(tmp_path, raw[: at + 20] + bytes(SLOT_BYTES - 20) + raw[at + SLOT_BYTES :])
    with opened(tmp_path) as heads:
        assert (heads.get(7), heads.get(8)) == (head(1), None)
        heads.remember({9: head(5)})
    with opened(tmp_path) as heads:
        assert (heads.get(7), heads.get(9)) == (head(1), head(5))


def _overwrite(folder: Path, content: bytes) -> None:
    with (folder / HEADS_FILE).open("r+b") as file:
        file.write(content)
        file.truncate()


@pytest.mark.parametrize("damage", ["header", "both records", "cut in the header"])
def test_a_damaged_file_is_refused_with_advice(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as heads:
        heads.remember({7: head(1)})
        heads.remember({7: head(2)})
        raw = bytearray((tmp_path / HEADS_FILE).read_bytes())
        raw[{"header": 40, "both records": SLOT_BYTES + 30}.get(damage, 0)] ^= 1
        if damage == "both records":
            raw[SLOT_BYTES + RECORD_BYTES + 30] ^= 1
            _overwrite(tmp_path, bytes(raw))
            with pytest.raises(HeadMemoryUnavailable, match="both records"):
                heads.get(7)
        _overwrite(tmp_path, bytes(raw[:50] if damage == "cut in the header" else raw))
    with pytest.raises(HeadMemoryUnavailable, match="restore the file from your newest backup"):
        AcknowledgedHeads(tmp_path / HEADS_FILE, IDENTITY)


def test_the_file_of_another_database_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as heads:
        heads.remember({7: head(1)})
    with pytest.raises(ForeignHeads, match="another database"):
        AcknowledgedHeads(tmp_path / HEADS_FILE, OTHER)
    with opened(tmp_path) as heads:
        assert heads.get(7) == head(1)


_REMEMBER = """
import sys
from pathlib import Path
from ledger.chain import ChainHead
from ledger.core.sequencer import AcknowledgedHeads
heads = AcknowledgedHeads(Path(sys.argv[1]), bytes(range(32, 64)))
seq = 0
while True:
    heads.remember({7: ChainHead(seq, seq.to_bytes(32, "big"), 1_700_000_000_000_000 + seq)})
    print(seq, flush=True)
    seq += 1
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = str(tmp_path / HEADS_FILE)
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", _REMEMBER, path], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            said = [int(child.stdout.readline()) for _ in range(300)]
            os.kill(child.pid, signal.SIGKILL)
            said += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        with opened(tmp_path) as heads:
            known = heads.get(7)
            assert known is not None
            assert known.seq >= said[-1]
            assert known == head(known.seq)
            heads.reset(7, head(0))
