"""Failures of the commands: one message, a fitting exit code, no traceback."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.cli.operations import bench
from tests.cli.commands import QUIRE, environment, invoke, run
from tests.cli.terminal import on_terminal

KEY = "quire_live_a_secretsecret"


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The URL of a bound port that does not listen, so that no other process can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def recording_listener() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a listener that records the bytes it receives, and closes the connection."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65536))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def error_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    return line


def test_an_unreachable_server_is_one_line(nowhere: str) -> None:
    result = invoke("orgs", "list", "--url", nowhere, settings={"QUIRE_API_KEY": KEY})
    assert result.exit_code == 2
    assert error_line(result.stderr).startswith(f"Error: can't connect to {nowhere}")
    assert KEY not in result.output


def test_a_key_of_an_auditor_that_never_expires_is_refused_before_the_server_is_asked(
    nowhere: str,
) -> None:
    asked = ("keys", "create", "acme", "--name", "n", "--role", "auditor", "--never")
    result = invoke(*asked, "--url", nowhere, settings={"QUIRE_API_KEY": KEY})
    assert result.exit_code == 2
    assert "A key of the role auditor must expire: give --expires-in DAYS." in result.stderr


def test_an_append_with_an_unusable_key_is_refused(nowhere: str) -> None:
    settings = {"QUIRE_API_KEY": "no key at all"}
    done = run("append", "demo", "--url", nowhere, settings=settings, stdin=b"{}\n")
    assert done.returncode == 2
    assert b"the API key is empty or has characters that no key has" in done.stderr
    assert b"Traceback" not in done.stderr


def test_without_a_key_it_says_where_keys_come_from(tmp_path: Path) -> None:
    result = invoke("keys", "list", "demo", settings={"QUIRE_DATA_DIR": str(tmp_path)})
    assert result.exit_code == 2
    line = error_line(result.stderr)
    assert "set QUIRE_API_KEY or give --api-key-file" in line
    assert str(tmp_path / "platform.key") in line


def test_the_platform_key_of_the_data_directory_is_used(
    tmp_path: Path, recording_listener: tuple[str, list[bytes]]
) -> None:
    url, heard = recording_listener
    (tmp_path / "platform.key").write_text(KEY + "\n")
    settings = {"QUIRE_DATA_DIR": str(tmp_path), "QUIRE_URL": url}
    assert invoke("orgs", "create", "x", settings=settings).exit_code == 2
    assert f"authorization: bearer {KEY}".encode() in heard[0].lower()


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:1", "https://ledger.example", "http://127.0.0.1.example"]
)
def test_the_platform_key_is_not_shown_to_another_machine(tmp_path: Path, url: str) -> None:
    (tmp_path / "platform.key").write_text(KEY + "\n")
    settings = {"QUIRE_DATA_DIR": str(tmp_path), "QUIRE_URL": url}
    result = invoke("orgs", "list", settings=settings)
    assert result.exit_code == 2
    assert "is only used for a server on this machine" in result.stderr


def test_a_key_file_wins_over_the_environment(
    tmp_path: Path, recording_listener: tuple[str, list[bytes]]
) -> None:
    url, heard = recording_listener
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    arguments = ("orgs", "create", "x", "--url", url, "--api-key-file", str(file))
    assert invoke(*arguments, settings={"QUIRE_API_KEY": "quire_live_other"}).exit_code == 2
    assert f"authorization: bearer {KEY}".encode() in heard[0].lower()


def test_a_key_file_of_another_encoding(
    tmp_path: Path, recording_listener: tuple[str, list[bytes]]
) -> None:
    url, heard = recording_listener
    file = tmp_path / "key"
    arguments = ("orgs", "create", "x", "--url", url, "--api-key-file", str(file))
    file.write_text(KEY + "\r\n", encoding="utf-8-sig")
    invoke(*arguments)
    assert f"authorization: bearer {KEY}".encode() in heard[0].lower()
    file.write_text(KEY + "\r\n", encoding="utf-16")
    result = invoke(*arguments)
    assert (result.exit_code, "it is UTF-16" in error_line(result.stderr)) == (2, True)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two words", "schlüssel".encode(), b"\xff" * 9000]
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    result = invoke("orgs", "list", "--api-key-file", str(file))
    assert result.exit_code == 2
    assert error_line(result.stderr) == f"Error: There is no API key in the file {file}."


def test_settings_that_are_wrong_stop_a_command_of_this_machine(tmp_path: Path) -> None:
    settings = {"QUIRE_PROT": "1", "QUIRE_DATA_DIR": str(tmp_path)}
    result = invoke("migrate", "--dry-run", settings=settings)
    assert result.exit_code == 2
    assert "Did you mean QUIRE_PORT?" in error_line(result.stderr)


def test_a_range_that_ends_before_it_begins(nowhere: str) -> None:
    arguments = ("verify", "demo", "--from", "5", "--to", "4", "--url", nowhere)
    result = invoke(*arguments, settings={"QUIRE_API_KEY": KEY})
    assert result.exit_code == 2
    assert "The range is empty: --from 5 is after --to 4." in result.stderr


def test_an_invalid_time(nowhere: str) -> None:
    arguments = ("entries", "list", "demo", "--since", "tomorrow", "--url", nowhere)
    result = invoke(*arguments, settings={"QUIRE_API_KEY": KEY})
    assert result.exit_code == 2
    assert "2026-01-31T12:00:00Z" in result.stderr


def test_an_erasure_needs_a_person_or_yes(
    recording_listener: tuple[str, list[bytes]],
) -> None:
    url, heard = recording_listener
    settings = {"QUIRE_API_KEY": KEY, "QUIRE_URL": url}
    done = run("subjects", "erase", "demo", "bob", settings=settings)
    assert done.returncode == 2
    assert b"--yes" in done.stderr
    assert not heard


def test_ctrl_c_exits_with_130_and_reports_the_appended_events(nowhere: str) -> None:
    settings = {"QUIRE_API_KEY": KEY, "QUIRE_URL": nowhere}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*QUIRE, "append", "demo", "--keep-going"],
        env=environment(settings),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"[]\n")
        process.stdin.flush()
        reported = process.stderr.readline()  # from now on the command waits for the next line
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert reported.startswith(b"line 1: ")
    assert process.returncode == 130
    assert stdout == b"Appended nothing to demo.\n"
    assert stderr == b"Lines after 1 are not confirmed as appended.\n\n"


def test_a_question_without_an_answer_is_reported(nowhere: str) -> None:
    command = ("subjects", "erase", "demo", "bob")
    settings = {"QUIRE_API_KEY": KEY, "QUIRE_URL": nowhere}
    done = on_terminal(*command, settings=settings, prompt="[y/N]", typed="\x04")
    assert (done.exit_code, "No answer, so nothing was done." in done.text) == (2, True)


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [*QUIRE, "settings"], env=environment(), stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 141
    assert stderr == b""


def test_an_option_of_serve_is_checked_like_its_setting() -> None:
    result = invoke("serve", "--port", "0", "--workers", "1000")
    assert result.exit_code == 2
    assert "QUIRE_PORT (TCP port to listen on)" in result.stderr
    assert "QUIRE_WORKERS (Server processes)" in result.stderr


def test_the_benchmark_needs_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    result = invoke("bench", "--quick")
    assert result.exit_code == 2
    assert "run make bench in a checkout" in result.stderr
