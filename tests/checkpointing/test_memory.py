"""The signer's memory is lost, damaged, read-only or on a full disk: nothing is signed without it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.core.checkpointing import SignerMemory, SignerMemoryUnavailable
from ledger.core.org import OrgFacts
from tests.support.appending import Process, new_org
from tests.support.clusters import Database
from tests.support.signing import checkpointer, checkpoints_of, fetch, sound_history

OPENED_AT_ONCE = """
import multiprocessing, sys
from pathlib import Path
from ledger.core.checkpointing import SignerMemory
def opened(path, gate):
    gate.wait()
    SignerMemory(Path(path)).close()
processes = multiprocessing.get_context("fork")
for number in range(60):
    gate = processes.Barrier(3)
    some = [processes.Process(target=opened, args=(f"{sys.argv[1]}{number}", gate)) for _ in range(3)]
    for one in some: one.start()
    for one in some: one.join()
    assert [one.exitcode for one in some] == [0, 0, 0], number
"""
ROOTS = [bytes([number]) * 32 for number in range(8)]
FULL = """
import resource, sys
from pathlib import Path
from ledger.core.checkpointing import SignerMemory, SignerMemoryUnavailable
memory = SignerMemory(Path(sys.argv[1]))
memory.remember([(1, 10, bytes(32))])
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = 10
try:
    while size < 100_000:
        memory.remember([(org, size + 1, bytes(32)) for org in range(1, 50)])
        size += 1
except SignerMemoryUnavailable as error:
    assert memory.get(1).size == size, "what could not be kept is not remembered"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    memory.remember([(1, size + 1, bytes(32))])
    print(size + 1, "disk" in str(error))
"""


def remember(path: Path, *rows: tuple[int, int, bytes]) -> None:
    with contextlib.closing(SignerMemory(path)) as memory:
        memory.remember(rows)


def test_the_memory_keeps_the_largest_size_of_each_tree(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    remember(path, (1, 10, ROOTS[1]), (2, 5, ROOTS[2]))
    remember(path, (1, 9, ROOTS[3]), (2, 6, ROOTS[4]))
    with contextlib.closing(SignerMemory(path)) as memory:
        assert memory.get(1) == (10, ROOTS[1])
        assert memory.get(2) == (6, ROOTS[4])
        assert memory.get(3) is None
        assert len(memory) == 2
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", ["header", "whole", "short", "text"])
def test_a_damaged_file_is_named(tmp_path: Path, place: str) -> None:
    path = tmp_path / "memory"
    remember(path, *[(number, 10, root) for number, root in enumerate(ROOTS)])
    data = bytearray(path.read_bytes())
    match place:
        case "header":
            data[:16] = bytes(16)
        case "whole":
            data = bytearray(os.urandom(len(data)))
        case "short":
            del data[len(data) // 2 :]
        case _:
            data = bytearray(b"not a database, but something that a person wrote\n" * 100)
    path.write_bytes(data)
    with pytest.raises(SignerMemoryUnavailable, match="restore the file"):
        SignerMemory(path)


def test_a_flipped_bit_is_no_rewritten_history(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    remember(path, (7, 1_000, ROOTS[7]))
    data = path.read_bytes()
    place = data.index(ROOTS[7])
    for at in (place - 1, place, place + 31, place + 40):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(SignerMemoryUnavailable):
            SignerMemory(path)


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(SignerMemoryUnavailable):
        SignerMemory(tmp_path / "absent" / "memory")


def test_a_read_only_file(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    remember(path, (1, 10, ROOTS[1]))
    tmp_path.chmod(0o755)
    path.chmod(0o444)
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from ledger.core.checkpointing import SignerMemory, SignerMemoryUnavailable\n"
        "if os.getuid() == 0: os.setgroups([]); os.setresuid(65534, 65534, 65534)\n"
        "try: SignerMemory(Path(sys.argv[1]))\n"
        "except SignerMemoryUnavailable: print('unavailable')\n"
    )
    for folder in (*tmp_path.parents, tmp_path):
        if folder.owner() != "root" or folder == tmp_path.parent:
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, check=False, text=True
    )
    assert done.stdout == "unavailable\n", done.stderr


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, check=True, text=True
    )
    size, result = done.stdout.split()
    assert result == "True"
    with contextlib.closing(SignerMemory(path)) as memory:
        found = memory.get(1)
        assert found is not None
        assert found.size == int(size)


async def test_nothing_is_signed_while_it_can_not_be_written(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    path = tmp_path / "memory"
    await server.append(org, b"one")
    async with checkpointer(database.server_url, path) as signer:
        with contextlib.closing(sqlite3.connect(path)) as rival:
            rival.execute(
                "CREATE TRIGGER full BEFORE INSERT ON signed BEGIN SELECT raise(ABORT, 'disk'); END"
            )
            with pytest.raises(SignerMemoryUnavailable):
                await signer.round()
            assert await checkpoints_of(database, org.id) == {}
            rival.execute("DROP TRIGGER full")
        assert (await signer.round()).checkpoints == 1
    assert await sound_history(database, org, path) == [1]


@pytest.mark.parametrize("how", ["unlinked", "replaced"])
async def test_a_file_that_vanishes_under_a_running_signer(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path, how: str
) -> None:
    server, org = one_org
    path = tmp_path / "memory"
    await server.append(org, b"one")
    async with checkpointer(database.server_url, path) as signer:
        assert (await signer.round()).checkpoints == 1
        await server.append(org, b"two")
        path.rename(tmp_path / "elsewhere")
        if how == "replaced":
            path.touch()
        with pytest.raises(SignerMemoryUnavailable):
            await signer.round()
    assert list(await checkpoints_of(database, org.id)) == [1]


async def test_signing_goes_on_after_it_was_lost(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    for number in range(3):
        await server.append(org, *[b"%d" % n for n in range(200)])
        async with checkpointer(database.server_url, tmp_path / f"memory {number}") as signer:
            assert (await signer.round()).stopped == []
            assert await signer.anchor() == number + 1
    assert await sound_history(database, org, tmp_path / "memory 2") == [200, 400, 600]


async def test_an_older_memory_delays_no_signature(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    """A second machine that led before has an older memory, also one whose last COMMIT was lost."""
    server, org = one_org
    old, new = tmp_path / "old", tmp_path / "new"
    await server.append(org, *[b"%d" % n for n in range(200)])
    async with checkpointer(database.server_url, old) as signer:
        await signer.round()
    await server.append(org, *[b"%d" % n for n in range(200)])
    async with checkpointer(database.server_url, new) as signer:
        await signer.round()
    await server.append(org, b"more")
    async with checkpointer(database.server_url, old) as signer:
        assert (await signer.round()).stopped == []
    assert await sound_history(database, org, old) == [200, 400, 401]


async def test_a_contradicting_memory_stops_the_org(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    """The trail does not continue the tree of size 100 that this machine signed."""
    server, org = one_org
    await server.append(org, *[b"%d" % n for n in range(200)])
    async with checkpointer(database.server_url, tmp_path / "new") as signer:
        await signer.round()
    await server.append(org, b"more")
    remember(tmp_path / "memory", (org.id, 100, ROOTS[1]))
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        ((_, _, doubt),) = (await signer.round()).stopped
    assert doubt.kind == "history_rewritten"
    assert list(await checkpoints_of(database, org.id)) == [200]


async def test_sizes_signed_by_others_are_remembered_from_the_first_sweep_on(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    """Only once proven: a tree row that claims more than was signed is not believed."""
    server, org = one_org
    liar = await new_org(server.database)
    for one in (org, liar):
        await server.append(one, *[b"%d" % n for n in range(260)])
    async with checkpointer(database.server_url, tmp_path / "other") as signer:
        await signer.round()
    await fetch(
        database, "UPDATE trees SET size = 999, root = sha256('') WHERE org_id = $1", liar.id
    )
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        ((org_id, slug, doubt),) = (await signer.sweep()).stopped
        assert (org_id, slug, doubt.kind) == (liar.id, liar.slug, "checkpoint_missing")
        assert (await signer.sweep()).stopped == []
    with contextlib.closing(SignerMemory(tmp_path / "memory")) as memory:
        assert memory.get(liar.id) is None
    await sound_history(database, org, tmp_path / "memory")


async def test_far_more_remembered_than_a_crash_can_lose(
    database: Database, one_org: tuple[Process, OrgFacts], tmp_path: Path
) -> None:
    server, org = one_org
    await server.append(org, b"one")
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        await signer.round()
    remember(tmp_path / "memory", (org.id, 2_000_000, ROOTS[1]))
    async with checkpointer(database.server_url, tmp_path / "memory") as signer:
        ((_, _, doubt),) = (await signer.sweep()).stopped
    assert doubt.kind == "trail_shortened"


def test_signers_that_make_the_file_at_once_wait_for_each_other(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENED_AT_ONCE, str(tmp_path / "memory")],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
