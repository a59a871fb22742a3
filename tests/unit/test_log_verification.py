"""The verification of a whole log: logs of every size verify, and each change is located."""

import gzip
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.merkle import EMPTY_ROOT, leaf_hash
from ledger.tiles import (
    MAX_FAULTS,
    EntryTile,
    LogReport,
    Tile,
    pack_entries,
    verification,
    verify_log,
)
from tests.support.static_logs import entries_of, grown_files, log_files, nothing

SIZE = 66_000
ENTRIES = entries_of(SIZE)
FILES, ROOT = log_files(ENTRIES)


def changed(path: str, data: bytes | None) -> LogReport:
    """The report on the log with one file changed or removed."""
    return verify_log({**FILES, path: data}.get, SIZE, ROOT)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def named(report: LogReport) -> list[tuple[str, str]]:
    return [(fault.path, fault.kind) for fault in report.faults]


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 512, 4_096, 4_097, 65_535, 65_536, SIZE])
def test_an_intact_log_is_proved_completely(size: int) -> None:
    files, root = log_files(ENTRIES[:size])
    seen: list[bytes] = []

    def on_bundle(bundle: EntryTile, entries: Sequence[bytes]) -> None:
        assert bundle.start == len(seen)
        seen.extend(entries)

    report = verify_log(files.get, size, root, on_bundle)
    tiles = sum(not path.startswith("tile/entries/") for path in files)
    assert report == LogReport(size, tiles, size, (), complete=True)
    assert seen == ENTRIES[:size]


def test_a_log_in_gzip_or_grown_since_is_proved() -> None:
    files = grown_files(ENTRIES[:600], 300)
    _, root = log_files(ENTRIES[:300])
    assert verify_log(files.get, 300, root).faults == ()
    packed = {
        path: gzip.compress(data) if path.startswith("tile/entries/") else data
        for path, data in files.items()
    }
    assert verify_log(packed.get, 300, root) == LogReport(300, 3, 300, (), complete=True)


def test_steps_never_ask_for_many_files() -> None:
    steps = verification(SIZE, ROOT)
    asked = []
    with suppress(StopIteration):
        paths = next(steps)
        while True:
            asked.append(len(paths))
            paths = steps.send({path: FILES[path] for path in paths})
    assert 0 < min(asked) <= max(asked) <= 32
    assert len(FILES) <= sum(asked) < len(FILES) + 16


@settings(max_examples=25)
@given(st.data(), st.sampled_from(sorted(FILES)))
def test_a_flipped_bit_is_found_in_its_file(data: st.DataObject, path: str) -> None:
    at = data.draw(st.integers(0, len(FILES[path]) - 1))
    report = changed(path, flipped(FILES[path], at))
    places = {fault.path for fault in report.faults}
    edge = path in {"tile/0/257.p/208", "tile/1/001.p/1", "tile/2/000.p/1"}
    assert ("checkpoint" if edge else path) in places
    assert report.entries < SIZE


def test_a_changed_entry_is_named() -> None:
    entries = [*ENTRIES[256:512]]
    entries[44] = b"rewritten"
    report = changed("tile/entries/001", pack_entries(entries))
    (fault,) = report.faults
    assert (fault.path, fault.kind) == ("tile/entries/001", "hash_mismatch")
    assert "entry 300 " in fault.reason
    assert report.entries == SIZE - 256
    assert report.complete


def test_entry_and_leaf_hash_changed_together_are_found_by_the_tile_above() -> None:
    entries = [*ENTRIES[256:512]]
    entries[44] = b"rewritten"
    files = FILES | {
        "tile/entries/001": pack_entries(entries),
        "tile/0/001": b"".join(map(leaf_hash, entries)),
    }
    report = verify_log(files.get, SIZE, ROOT)
    assert named(report) == [("tile/0/001", "hash_mismatch")]
    assert (report.tiles, report.entries) == (len(FILES) - 258 - 1, SIZE - 256)


def test_a_changed_upper_tile_is_distinguished_from_the_tiles_below() -> None:
    report = changed("tile/1/000", flipped(FILES["tile/1/000"], 5 * 32))
    first, second = report.faults
    assert (first.path, first.kind) == ("tile/1/000", "hash_mismatch")
    assert (second.path, second.kind) == ("tile/0/005", "hash_mismatch")
    assert "tile/1/000, which does not match the checkpoint itself" in second.reason
    assert report.entries == SIZE - 65_536


def test_a_log_rewritten_as_a_whole_does_not_lead_to_the_root() -> None:
    entries = [*ENTRIES]
    entries[7] = b"rewritten"
    files, root = log_files(entries)
    report = verify_log(files.get, SIZE, ROOT)
    assert named(report) == [("checkpoint", "root_mismatch")]
    assert root.hex() in report.faults[0].reason
    assert (report.tiles, report.entries) == (0, 0)


def test_a_shortened_log_is_found() -> None:
    files, _ = log_files(ENTRIES[: SIZE - 100])
    report = verify_log(files.get, SIZE, ROOT)
    assert ("tile/0/257.p/208", "missing") in named(report)
    assert ("tile/entries/257.p/208", "missing") in named(report)
    assert report.entries == 0


@pytest.mark.parametrize("path", ["tile/0/003", "tile/1/000", "tile/2/000.p/1", "tile/entries/003"])
def test_a_missing_or_cut_file_is_named(path: str) -> None:
    assert (path, "missing") in named(changed(path, None))
    assert (path, "malformed") in named(changed(path, FILES[path][:-1]))
    assert (path, "malformed") in named(changed(path, FILES[path] + bytes(32)))


def test_entries_are_counted_only_where_they_are_proved() -> None:
    assert changed("tile/0/003", None).entries == SIZE - 256
    assert changed("tile/entries/003", None).entries == SIZE - 256
    assert changed("tile/1/000", None).entries == SIZE - 65_536
    assert changed("tile/2/000.p/1", None).entries == 0


@pytest.mark.parametrize("size", [2**40, 2**64 - 1])
def test_a_checkpoint_of_a_log_that_is_not_there_ends_soon(size: int) -> None:
    tracemalloc.start()
    report = verify_log(nothing, size, ROOT)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(report.faults) == MAX_FAULTS
    assert not report.complete
    assert peak_bytes < 2_000_000


def test_the_empty_log_has_the_empty_root() -> None:
    assert verify_log(nothing, 0, EMPTY_ROOT).faults == ()
    assert named(verify_log(nothing, 0, ROOT)) == [("checkpoint", "root_mismatch")]


@given(
    st.integers(1, 600),
    st.dictionaries(
        st.sampled_from([Tile(0, 0).path(), Tile(0, 0, 1).path(), EntryTile(0).path()]),
        st.binary(max_size=100),
    ),
)
def test_arbitrary_files_raise_nothing(size: int, files: dict[str, bytes]) -> None:
    assert verify_log(files.get, size, ROOT).faults
