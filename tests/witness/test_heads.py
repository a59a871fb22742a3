"""The memory of a witness never goes back, loses nothing, and is never half written."""

import multiprocessing
import os
import signal
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.refusal import StartupRefused
from server.witness.heads import LogHead, WitnessHeads
from server.witness.home import WitnessDirectory, create, load_keys, load_logs

ROOT = bytes(range(32))


def head(size: int, root: bytes = ROOT, origin: str = "log") -> LogHead:
    return LogHead(origin, size, root, 1_800_000_000, b"note %d" % size)


@pytest.fixture
def heads_file(tmp_path: Path) -> Path:
    WitnessHeads.create(tmp_path / "heads.db")
    return tmp_path / "heads.db"


@pytest.fixture
def heads(heads_file: Path) -> Iterator[WitnessHeads]:
    opened = WitnessHeads(heads_file)
    yield opened
    opened.close()


def keep(heads: WitnessHeads, one: LogHead) -> None:
    with heads.exclusively():
        heads.keep(one)


def test_kept_heads_are_there_after_reopening(heads: WitnessHeads, heads_file: Path) -> None:
    keep(heads, head(3))
    keep(heads, head(5))
    keep(heads, head(1, origin="another"))
    again = WitnessHeads(heads_file)
    assert again.find("log") == head(5)
    assert again.find("nobody") is None
    assert [one.origin for one in again.all()] == ["another", "log"]
    again.close()


@pytest.mark.parametrize("back", [head(4), head(0), head(5, bytes(32))])
def test_the_database_itself_lets_no_head_go_back(
    heads: WitnessHeads, heads_file: Path, back: LogHead
) -> None:
    keep(heads, head(5))
    with pytest.raises(sqlite3.IntegrityError, match="never goes back"):
        keep(heads, back)
    with (
        sqlite3.connect(heads_file) as direct,
        pytest.raises(sqlite3.IntegrityError, match="never"),
    ):
        direct.execute("DELETE FROM heads")
    direct.close()
    assert heads.find("log") == head(5)


def test_an_exception_leaves_the_memory_as_it_was(heads: WitnessHeads, heads_file: Path) -> None:
    keep(heads, head(5))

    def fail() -> None:
        with heads.exclusively():
            heads.keep(head(6))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert heads.find("log") == head(5)
    keep(heads, head(7))


def test_a_second_writer_waits(heads: WitnessHeads, heads_file: Path) -> None:
    other = WitnessHeads(heads_file)
    other._database.execute("PRAGMA busy_timeout = 10")
    with heads.exclusively():
        with pytest.raises(sqlite3.OperationalError, match="locked"), other.exclusively():
            pass
        heads.keep(head(5))
    keep(other, head(6))
    assert heads.find("log") == head(6)
    other.close()


def _die_in_the_transaction(path: Path) -> None:
    heads = WitnessHeads(path)
    with heads.exclusively():
        heads.keep(head(9))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_death_before_the_commit_leaves_the_memory_as_it_was(
    heads: WitnessHeads, heads_file: Path
) -> None:
    keep(heads, head(5))
    process = multiprocessing.get_context("spawn").Process(
        target=_die_in_the_transaction, args=(heads_file,)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert heads.find("log") == head(5)
    keep(heads, head(6))


def test_a_missing_memory_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="Restore it"):
        WitnessHeads(tmp_path / "heads.db")
    assert not (tmp_path / "heads.db").exists()


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_a_file_that_is_not_a_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "heads.db").write_bytes(content)
    with pytest.raises(StartupRefused, match=r"heads\.db"):
        WitnessHeads(tmp_path / "heads.db")


def test_a_damaged_memory_is_refused(heads: WitnessHeads, heads_file: Path) -> None:
    for size in range(200):
        keep(heads, LogHead(f"log{size}", size, ROOT, 1, bytes(1_000)))
    heads.close()
    content = bytearray(heads_file.read_bytes())
    content[8_192:12_288] = b"\xff" * 4_096
    heads_file.write_bytes(content)
    with pytest.raises(StartupRefused):
        WitnessHeads(heads_file)


def test_a_witness_is_made_once(tmp_path: Path) -> None:
    directory = tmp_path / "w"
    made = create(directory, "witness.example/w1")
    home = WitnessDirectory(directory)
    assert [signer.vkey() for signer in load_keys(home)] == [signer.vkey() for signer in made]
    assert load_logs(home).logs == ()
    for path in (home.keys, home.heads, home.logs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    home.heads.unlink()
    with pytest.raises(StartupRefused, match="already"):
        create(directory, "witness.example/w1")
    assert not home.heads.exists()


def test_an_interrupted_creation_is_finished(tmp_path: Path) -> None:
    create(tmp_path / "w", "w1")
    home = WitnessDirectory(tmp_path / "w")
    home.keys.unlink()
    create(tmp_path / "w", "w1")
    assert len(load_keys(home)) == 2


@pytest.mark.parametrize("name", ["", "a b", "a+b", "x" * 256, "a\nb"])
def test_invalid_key_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartupRefused, match="A name is"):
        create(tmp_path / "w", name)


def test_keys_and_logs_that_cannot_be_used(tmp_path: Path) -> None:
    home = WitnessDirectory(tmp_path / "w")
    with pytest.raises(StartupRefused, match="quire witness init"):
        load_keys(home)
    signers = create(home.directory, "w1")
    home.logs.write_text("quorum\n")
    with pytest.raises(StartupRefused, match="line 1"):
        load_logs(home)
    home.logs.unlink()
    with pytest.raises(StartupRefused, match="cannot be read"):
        load_logs(home)
    home.keys.chmod(0o644)
    with pytest.raises(StartupRefused, match="other users"):
        load_keys(home)
    home.keys.chmod(0o600)
    for content in ("", "nonsense\n", f"{signers[0].vkey()}\n", f"{signers[0].skey()}\n" * 9):
        home.keys.write_text(content)
        with pytest.raises(StartupRefused) as caught:
            load_keys(home)
        assert signers[0].skey() not in str(caught.value)
