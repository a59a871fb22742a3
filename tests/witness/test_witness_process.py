"""A witness process that is killed, raced, flooded, and sent forbidden requests."""

import contextlib
import http.client
import itertools
import random
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from ledger.checkpoint import open_checkpoint
from ledger.note import add_signatures, open_note, parse_signatures
from ledger.submission import SUBMISSION_BYTES_MAX
from server.witness.heads import WitnessHeads
from tests.cli.commands import run
from tests.plugins.witness import StartWitness
from tests.support.raw_http import parse
from tests.support.serving import PeerAnswer
from tests.support.small_log import SmallLog
from tests.support.witness_process import WitnessProcess
from tests.support.wrong_clock import WrongClock

LOG = SmallLog()
MONITOR = f"/{sha256(LOG.origin.encode()).hexdigest()}/checkpoint"
MAIN = "import sys, os\n{change}\nfrom server.cli.main import main\nmain(prog_name='quire')"
# Nothing outside can time these crashes: the program is changed at the line.
DIE_BEFORE_COMMIT = """
from server.witness.heads import WitnessHeads
keep = WitnessHeads.keep
WitnessHeads.keep = lambda self, head: (keep(self, head), os._exit(9))
"""
DIE_BEFORE_ANSWER = """
from server.witness.cosigner import Cosigner
add = Cosigner.add_checkpoint
Cosigner.add_checkpoint = lambda self, body: (add(self, body).status == 200 and os._exit(9))
"""
IMPATIENT = """
import dataclasses, server.witness.heads as heads, server.witness.serve as serve
serve.LIMITS = dataclasses.replace(serve.LIMITS, patience_s=0.5)
heads.BUSY_TIMEOUT_S = 0.2
"""


@pytest.fixture
def witness(start_witness: StartWitness) -> WitnessProcess:
    return start_witness(LOG.policy)


@pytest.fixture
def changeable_witness(session_dir: Path) -> Iterator[WitnessProcess]:
    """A witness that is not started yet, for a changed program."""
    made = WitnessProcess(session_dir / f"w-{uuid4().hex[:8]}", LOG.policy)
    yield made
    made.stop()


def start_with(witness: WitnessProcess, change: str) -> None:
    unchanged = witness.program
    witness.program = (sys.executable, "-c", MAIN.format(change=change))
    witness.start()
    witness.program = unchanged


def size_of(witness: WitnessProcess) -> int:
    """The size in the witness's memory on disk."""
    heads = WitnessHeads(witness.home.heads)
    head = heads.find(LOG.origin)
    heads.close()
    return head.size if head else 0


def check(witness: WitnessProcess, answer: PeerAnswer, size: int) -> None:
    """Check that the answer has a valid cosignature of every key of the witness."""
    assert answer.status == 200, answer.body
    note = add_signatures(LOG.note(size), parse_signatures(answer.body))
    verified = open_note(note, witness.verifiers).verified
    assert {found.verifier for found in verified} == set(witness.verifiers)
    assert all(found.time_s and abs(found.time_s - time.time()) < 300 for found in verified)


def test_over_http(witness: WitnessProcess) -> None:
    check(witness, witness.add(LOG.body(0, 7)), 7)
    check(witness, witness.add(LOG.body(7, 100)), 100)
    conflict = witness.add(LOG.body(7, 120))
    assert (conflict.status, conflict.body) == (409, b"100\n")
    assert conflict.headers["content-type"] == "text/x.tlog.size"
    assert witness.add(LOG.body(100, 120, branch=1)).status == 422
    assert witness.add(SmallLog("stranger").body(0, 1)).status == 404
    monitored = witness.get(MONITOR)
    keys = [signer.verifier() for signer in LOG.signers]
    opened = open_checkpoint(monitored.body, LOG.origin, keys, witness.verifiers)
    assert opened.checkpoint.size == 100
    assert len(opened.verified) == len(keys) + len(witness.verifiers)


def test_nothing_is_cosigned_while_the_clock_is_wrong(
    changeable_witness: WitnessProcess, session_dir: Path
) -> None:
    clock = WrongClock(session_dir / f"clock-{uuid4().hex[:8]}")
    start_with(changeable_witness, f"exec(open({str(clock.module)!r}).read())")
    check(changeable_witness, changeable_witness.add(LOG.body(0, 7)), 7)
    clock.set(400 * 86_400)
    for _ in range(2):
        refused = changeable_witness.add(LOG.body(7, 100))
        assert (refused.status, b"clock" in refused.body) == (503, True)
    assert size_of(changeable_witness) == 7
    clock.set(0)
    check(changeable_witness, changeable_witness.add(LOG.body(7, 100)), 100)


def test_other_paths_and_methods(witness: WitnessProcess) -> None:
    assert witness.get(MONITOR).status == 404
    assert witness.get(f"/{'0' * 64}/checkpoint").status == 404
    assert witness.get("/add-checkpoint").status == 405
    assert witness.get("/").status == 404
    assert witness.get("/../witness.keys").status == 404


@pytest.mark.parametrize(
    ("path", "allow"), [("/add-checkpoint", "OPTIONS, POST"), (MONITOR, "GET, HEAD, OPTIONS")]
)
def test_options_and_allow_name_the_methods_of_a_path(
    witness: WitnessProcess, path: str, allow: str
) -> None:
    for method in ("OPTIONS", "DELETE", "PUT"):
        answer = exchange(witness, f"{method} {path} HTTP/1.1\r\nhost: w\r\n")
        assert answer.status == (204 if method == "OPTIONS" else 405)
        assert answer.headers["allow"] == allow


def test_head_answers_like_get_without_the_body(witness: WitnessProcess) -> None:
    witness.add(LOG.body(0, 7))
    got = witness.get(MONITOR)
    headed = exchange(witness, f"HEAD {MONITOR} HTTP/1.1\r\nhost: w\r\n", body=False)
    assert (headed.status, headed.headers["content-length"]) == (200, str(len(got.body)))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ntransfer-encoding: gzip, chunked\r\n", 501),
        ("POST /add-checkpoint HTTP/1.0\r\ntransfer-encoding: chunked\r\n", 400),
        (f"GET {MONITOR} HTTP/1.1\r\n", 400),
        (f"GET {MONITOR} HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused(
    witness: WitnessProcess, head: str, status: int
) -> None:
    assert exchange(witness, head).status == status


def exchange(witness: WitnessProcess, head: str, *, body: bool = True) -> PeerAnswer:
    """Send the head of a request, and read its answer."""
    port = int(witness.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(f"{head}connection: close\r\n\r\n".encode())
        received = b"".join(iter(lambda: line.recv(65_536), b""))
    return parse(received, body=body)


def test_submissions_that_are_refused_again_and_again_are_logged_once(
    witness: WitnessProcess,
) -> None:
    for _ in range(20):
        assert witness.add(SmallLog("stranger").body(0, 1)).status == 404
        assert witness.add(b"nonsense").status == 400
        assert exchange(witness, f"GET {MONITOR} HTTP/1.1\r\nno header\r\n").status == 400
    logged = (witness.home.directory / "log").read_text()
    assert logged.count("not cosigned") == 2
    assert logged.count("a request is not HTTP/1.1") == 1


def test_cosigned_heads_are_known_after_a_restart(witness: WitnessProcess) -> None:
    witness.add(LOG.body(0, 100))
    assert witness.terminate() == 0
    witness.start()
    assert witness.add(LOG.body(0, 90)).body == b"100\n"
    check(witness, witness.add(LOG.body(100, 101)), 101)


def test_killed_between_the_commit_and_the_answer(changeable_witness: WitnessProcess) -> None:
    start_with(changeable_witness, DIE_BEFORE_ANSWER)
    with pytest.raises(OSError):  # noqa: PT011 - a closed connection, by any of its names
        changeable_witness.add(LOG.body(0, 7))
    assert changeable_witness.process.wait(30) == 9
    assert size_of(changeable_witness) == 7
    changeable_witness.start()
    assert changeable_witness.add(LOG.body(0, 6)).body == b"7\n"
    check(changeable_witness, changeable_witness.add(LOG.body(7, 7)), 7)


def test_killed_between_the_write_and_the_commit(changeable_witness: WitnessProcess) -> None:
    start_with(changeable_witness, DIE_BEFORE_COMMIT)
    with pytest.raises(OSError):  # noqa: PT011
        changeable_witness.add(LOG.body(0, 7))
    assert changeable_witness.process.wait(30) == 9
    assert size_of(changeable_witness) == 0
    changeable_witness.start()
    check(changeable_witness, changeable_witness.add(LOG.body(0, 7)), 7)


def test_killed_at_any_moment_it_never_forgets_what_it_released(witness: WitnessProcess) -> None:
    moment = random.Random(20261)
    released = 0
    for _ in range(6):
        killer = threading.Timer(moment.uniform(0.01, 0.2), witness.kill)
        killer.start()
        size = size_of(witness)
        assert size >= released
        with contextlib.suppress(OSError, http.client.HTTPException):
            for new in itertools.islice(itertools.count(size + 1), 40):
                check(witness, witness.add(LOG.body(new - 1, new)), new)
                released = new
        killer.join()
        assert released <= size_of(witness) <= released + 1
        witness.start()
    assert released > 0


def test_one_of_concurrent_submissions_from_one_size_is_cosigned(witness: WitnessProcess) -> None:
    check(witness, witness.add(LOG.body(0, 7)), 7)
    sizes = range(8, 40)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda new: witness.add(LOG.body(7, new)), sizes))
    cosigned = [new for new, answer in zip(sizes, answers, strict=True) if answer.status == 200]
    assert len(cosigned) == 1
    assert size_of(witness) == cosigned[0]
    refused = {(answer.status, answer.body) for answer in answers if answer.status != 200}
    assert refused == {(409, b"%d\n" % cosigned[0])}


def test_two_processes_on_one_memory_do_not_fork_a_log(
    witness: WitnessProcess, session_dir: Path
) -> None:
    second = WitnessProcess(session_dir / f"w-{uuid4().hex[:8]}", LOG.policy)
    second.home = witness.home
    second.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(
                    lambda n: (witness, second)[n % 2].add(LOG.body(0, 20, branch=n // 2 % 2)),
                    range(16),
                )
            )
        # The first accepted submission may be repeated from size 20; from 0 there is only one.
        assert sorted({answer.status for answer in answers}) == [200, 409]
        assert [answer.status for answer in answers].count(200) == 1
    finally:
        second.stop()


def test_a_memory_that_cannot_be_written_now(changeable_witness: WitnessProcess) -> None:
    start_with(changeable_witness, IMPATIENT)
    blocking = sqlite3.connect(changeable_witness.home.heads, isolation_level=None)
    blocking.execute("BEGIN IMMEDIATE")
    assert changeable_witness.add(LOG.body(0, 7)).status == 503
    blocking.execute("ROLLBACK")
    blocking.close()
    check(changeable_witness, changeable_witness.add(LOG.body(0, 7)), 7)


def test_too_large_bodies(witness: WitnessProcess) -> None:
    before = psutil.Process(witness.process.pid).memory_info().rss
    assert witness.add(bytes(SUBMISSION_BYTES_MAX + 1)).status == 413
    for _ in range(8):
        assert _status_of_an_endless_body(witness) == 413
    check(witness, witness.add(LOG.body(0, 7)), 7)
    assert psutil.Process(witness.process.pid).memory_info().rss - before < 64 << 20


def _status_of_an_endless_body(witness: WitnessProcess) -> int:
    """Send chunks until the witness answers; returns the status."""
    port = int(witness.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(
            b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(2 * SUBMISSION_BYTES_MAX // 0x10000):
                line.sendall(chunk)
        reply = http.client.HTTPResponse(line)
        reply.begin()
        return reply.status


def test_a_missing_body(changeable_witness: WitnessProcess) -> None:
    start_with(changeable_witness, IMPATIENT)
    port = int(changeable_witness.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 9\r\n\r\nold 0")
        reply = http.client.HTTPResponse(line)
        reply.begin()
        assert reply.status == 408
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line:
        line.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 9\r\n\r\nold 0")
    check(changeable_witness, changeable_witness.add(LOG.body(0, 7)), 7)


def test_idle_connections_do_not_stop_it(witness: WitnessProcess) -> None:
    """More than it may have: the idle ones give way, those with a begun head too."""
    port = int(witness.url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        for number in range(1_200):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            if number % 3 == 0:
                line.sendall(b"POST /add-checkpoint HTTP/1.1\r\nhost")
        check(witness, witness.add(LOG.body(0, 7)), 7)
        check(witness, witness.add(LOG.body(7, 9)), 9)


def test_a_body_that_is_never_sent_is_given_up(changeable_witness: WitnessProcess) -> None:
    start_with(changeable_witness, IMPATIENT)
    head = "POST /add-checkpoint HTTP/1.1\r\nhost: w\r\ncontent-length: 9\r\n"
    assert exchange(changeable_witness, head).status == 408


def test_on_the_command_line(tmp_path: Path) -> None:
    directory = ("--dir", str(tmp_path / "w"))
    made = run("witness", "init", "witness.example/w1", *directory)
    assert made.returncode == 0
    keys = made.stdout.decode().split()
    assert [key.split("+")[0] for key in keys] == ["witness.example/w1"] * 2
    no_logs = run("witness", "serve", *directory)
    assert no_logs.returncode == 2
    assert b"lists no log" in no_logs.stderr
    (tmp_path / "w" / "logs.policy").write_text(f"{LOG.policy}quorum none\n")
    shown = run("witness", "show", *directory).stdout.decode()
    assert shown.split()[:2] == keys
    assert LOG.origin in shown
    as_json = run("witness", "show", "--json", *directory).stdout.decode()
    assert f'"log":"{LOG.origin}","size":null' in as_json
    (tmp_path / "w" / "heads.db").unlink()
    forgetful = run("witness", "serve", *directory)
    assert forgetful.returncode == 2
    assert b"Restore it" in forgetful.stderr
    assert run("witness", "init", "w2", *directory).returncode == 2
