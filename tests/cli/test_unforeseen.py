"""Every unexpected failure is one message and exit code 2; exit code 1 reports a fault of a trail."""

import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from server.cli.main import main
from tests.cli.commands import QUIRE, Leaf, environment, invoke, leaves
from tests.support.clusters import Database
from tests.support.serving import Server

KEY = "quire_live_a_secretsecret"
BYTES = os.fsdecode(b"Ren\xe9")  # as Python shows an argument that is not UTF-8
LEAVES = list(leaves())
CLIENT = {"QUIRE_API_KEY": KEY, "QUIRE_URL": "http://127.0.0.1:9"}


def words(leaf: Leaf) -> str:
    return " ".join(leaf.path)


def quire(
    *arguments: str | bytes,
    settings: dict[str, str] | None = None,
    stdin: bytes = b"",
    shell: str = "",
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `quire` as a process, with shell redirections."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", *QUIRE, *arguments]
    return subprocess.run(
        command,
        env={**environment(), **CLIENT, **(settings or {})},
        input=stdin,
        cwd=cwd,
        capture_output=True,
        timeout=60,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[bytes], *said: str) -> None:
    stderr = done.stderr.decode()
    assert done.returncode == 2, stderr
    assert "Traceback" not in stderr
    assert "Unexpected error" not in stderr
    assert "Error: " in stderr
    assert all(words in stderr for words in said), stderr
    assert KEY not in stderr


def _arguments(leaf: Leaf, at_fault: click.Parameter) -> list[str]:
    """Arguments for a command, one of which is not UTF-8."""
    given = list(leaf.path)
    positional: list[str] = []
    for parameter in leaf.command.params:
        others = "1" if isinstance(parameter.type, click.types.IntParamType) else "x"
        value = BYTES if parameter is at_fault else others
        if isinstance(parameter, click.Argument):
            if parameter is at_fault or parameter.required:
                positional.append(value)
        elif parameter is at_fault or parameter.required:
            given += [parameter.opts[0], value]
    return [*given, *positional]


TEXTS = [
    pytest.param(leaf, parameter, id=f"{words(leaf)} {parameter.name}")
    for leaf in LEAVES
    for parameter in leaf.command.params
    if not (isinstance(parameter, click.Option) and parameter.is_flag)
    and not (words(leaf).endswith("serve") and isinstance(parameter.type, click.Path))  # it serves
]


@pytest.mark.parametrize(("leaf", "parameter"), TEXTS)
def test_an_argument_that_is_not_utf_8_is_refused(
    leaf: Leaf, parameter: click.Parameter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*_arguments(leaf, parameter), settings={**CLIENT, "QUIRE_DATA_DIR": "d"})
    assert "Unexpected error" not in result.stderr
    if isinstance(parameter.type, click.Path | click.File) or words(leaf) == "append":
        assert result.exit_code in {0, 2}  # a file may have any name
    else:
        assert result.exit_code == 2
        assert "Ren\\udce9" in result.stderr or "is not UTF-8 text" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [b"\xff"],
        [b"entries", b"list", b"demo", b"--actor", b"Ren\xe9"],
        [b"subjects", b"erase", b"demo", b"Ren\xe9", b"--yes"],
        [b"append", b"demo", b"Ren\xe9.ndjson"],
    ],
)
def test_bytes_on_a_real_command_line_are_refused(arguments: list[bytes]) -> None:
    assert_refused(quire(*arguments))


ELSEWHERE = {"QUIRE_URL": "http://192.0.2.1", "QUIRE_INSECURE_HTTP": "true"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9", **ELSEWHERE}, "ALL_PROXY"),
        ({"http_proxy": "notaurl://", **ELSEWHERE}, "http_proxy"),
        ({"http_proxy": "http://.invalid:1", **ELSEWHERE}, "http_proxy"),
        ({"http_proxy": "http://127.0.0.1:9", "no_proxy": "[::", **ELSEWHERE}, "http_proxy"),
        # For this machine they are not used.
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "can't connect to http://127.0.0.1:9: "),
        ({"http_proxy": "notaurl://"}, "can't connect to http://127.0.0.1:9: "),
        ({"QUIRE_URL": "http://.invalid"}, "URL"),
        ({"QUIRE_URL": f"http://{'a' * 70}.example"}, "URL"),
        ({"QUIRE_URL": "http://127.0.0.1:99999"}, "URL"),
        ({"QUIRE_URL": "http://user:password@127.0.0.1"}, "URL"),
        ({"QUIRE_URL": BYTES}, "QUIRE_URL is not UTF-8"),
        ({"QUIRE_URL": "127.0.0.1:8080"}, "URL must be http://host"),
        ({"QUIRE_URL": "127.0.0.1:8080", "QUIRE_API_KEY": ""}, "URL must be http://host"),
        ({"QUIRE_URL": "localhost", "QUIRE_API_KEY": ""}, "URL must be http://host"),
        ({"QUIRE_URL": "http://[::1"}, 'not closed by "]"'),
        ({"QUIRE_URL": "http://[::1:8080/x"}, 'not closed by "]"'),
        ({"QUIRE_API_KEY": BYTES}, "API key"),
        ({"QUIRE_API_KEY": "a\r\nx-api-key: b"}, "API key"),
        ({"QUIRE_API_KEY": "clé"}, "API key"),
        ({"QUIRE_API_KEY": "", "QUIRE_DATA_DIR": BYTES}, "No API key"),
        ({"QUIRE_API_KEY": "", "QUIRE_DATA_DIR": "~no-such-user-here/x"}, "No API key"),
        ({"SSL_CERT_FILE": "/none"}, "SSL_CERT_FILE names '/none'"),
    ],
)
def test_an_environment_that_can_t_be_used_is_a_message(
    settings: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["verify", "demo"], ["append"]):
        result = invoke(*command, settings={**CLIENT, "no_proxy": "", **settings})
        assert result.exit_code == 2
        assert "Unexpected error" not in result.stderr
        assert said in result.stderr
        assert KEY not in result.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"QUIRE_URL": "http://.invalid"},
        {"QUIRE_API_KEY": BYTES},
        {"SSL_CERT_FILE": "/none"},
    ],
)
def test_an_unusable_environment_is_refused_in_a_process_of_its_own(
    settings: dict[str, str],
) -> None:
    assert_refused(quire("verify", "demo", settings={"no_proxy": "", **settings}))


def test_an_unforeseen_error_is_a_message_with_its_traceback_on_demand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("of all\nthings\x1b[31m")

    monkeypatch.setattr("server.cli.trails.orgs.output.print_json", broken)
    monkeypatch.setattr("server.cli.operations.settings.output.print_json", broken)
    result = invoke("settings", "--json")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(r"Error: Unexpected error: of all things\x1b[31m. Please report it")
    assert "QUIRE_DEBUG" in line
    shown = invoke("settings", "--json", settings={"QUIRE_DEBUG": "1"})
    assert shown.exit_code == 2
    assert "Traceback" in shown.stderr
    assert "in broken" in shown.stderr


def test_the_debug_variable_is_no_unknown_setting(tmp_path: Path) -> None:
    settings = {"QUIRE_DEBUG": "1", "QUIRE_DATA_DIR": str(tmp_path)}
    assert invoke("migrate", "--dry-run", settings=settings).exit_code == 0


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "x"),
        MemoryError(),
        RecursionError("deep"),
        EOFError(),
        ExceptionGroup("g", [KeyError("k")]),
        StopIteration(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    ],
)
def test_no_error_has_the_exit_code_of_a_faulty_trail(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("server.cli.operations.settings.output.print_table", broken)
    result = invoke("settings")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


class Panic(BaseException):
    """As packages in Rust raise it: not an Exception."""


def test_a_panic_has_not_the_exit_code_of_a_faulty_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Panic("index out of bounds")

    monkeypatch.setattr("server.cli.operations.settings.output.print_table", broken)
    result = invoke("settings")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "Unexpected error: index out of bounds" in result.stderr


@pytest.mark.parametrize(
    "content",
    [
        'raise ImportError("libx.so.1: version GLIBC_2.99 not found")',
        'raise OSError(5, "Input/output error")',
        "def broken(:",
        "raise MemoryError",
        "import server.no_such_module",
    ],
)
def test_a_package_that_can_t_be_loaded_is_a_message(tmp_path: Path, content: str) -> None:
    (tmp_path / "msgspec.py").write_text(content)
    program = "import sys; from server.cli.program import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", "demo"],
        env={**environment(), **CLIENT, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert_refused(done, "quire can't be loaded", "QUIRE_DEBUG=1")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        (">/dev/full", 2),
        (">/dev/full 2>/dev/full", 2),
        (">&-", 0),
        (">&- 2>&-", 0),
        ("<&- >&- 2>&-", 0),
    ],
)
def test_an_output_that_takes_nothing_is_no_traceback(shell: str, code: int) -> None:
    done = quire("settings", shell=shell)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("shell", ["2>/dev/full", "2>&-", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_message_that_can_t_be_written_leaves_the_exit_code(shell: str) -> None:
    assert quire("verify", "demo", shell=shell).returncode == 2
    assert quire("nothing-of-the-kind", shell=shell).returncode == 2


def test_a_closed_input_is_a_message() -> None:
    assert_refused(quire("append", "demo", shell="<&-"), "standard input is closed")
    assert_refused(quire("subjects", "erase", "demo", "bob", shell="<&-"), "--yes")


ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
]


@pytest.mark.parametrize("locale", ASCII)
def test_text_that_the_terminal_lacks_is_no_traceback(
    shared_server: Server, locale: dict[str, str]
) -> None:
    org, key = shared_server.create_org()
    settings = {"QUIRE_URL": shared_server.url, "QUIRE_API_KEY": key, **locale}
    named = quire("orgs", "rename", org, "Zoë 漢", settings=settings)
    assert named.returncode == 0, named.stderr
    shown = quire("orgs", "show", settings=settings)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert "Zoë 漢".encode() in shown.stdout or rb"Zo\xeb \u6f22" in shown.stdout
    as_json = quire("orgs", "show", "--json", settings=settings)
    assert json.loads(as_json.stdout)["name"] == "Zoë 漢"


class _Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_proxy_that_refuses_is_named(proxy: str) -> None:
    settings = {"http_proxy": proxy, "no_proxy": "", "QUIRE_URL": "http://192.0.2.1"}
    settings["QUIRE_INSECURE_HTTP"] = "true"
    assert_refused(quire("verify", "demo", settings=settings), "http_proxy")


def test_with_server_and_proxy_unreachable_the_proxy_is_blamed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = {
            "http_proxy": f"http://127.0.0.1:{taken.getsockname()[1]}",
            "no_proxy": "",
            "QUIRE_URL": "http://192.0.2.1",
            "QUIRE_INSECURE_HTTP": "true",
        }
        assert_refused(quire("orgs", "list", settings=settings), "proxy that http_proxy names")


def test_a_file_of_record_ids_that_is_not_text(tmp_path: Path) -> None:
    listed = tmp_path / "ids"
    listed.write_bytes(b"rec_\xff\n")
    done = quire("bundle", "create", "demo", "--records", str(listed))
    assert_refused(done, "--records is not UTF-8")


@pytest.mark.parametrize(
    "line",
    [b'{"a":"\xff"}', b"\xff\n", b"\x00", b"[]", b"\xef\xbb\xbf{}", b'{"a":1', b"\xed\xa0\x80"],
)
def test_bytes_that_are_no_event_are_a_bad_line(line: bytes, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(line)
    result = invoke("append", "demo", str(file), settings=CLIENT)
    assert result.exit_code == 1  # a line that is no event
    assert result.stderr.startswith("line 1: ")


def test_a_disk_that_takes_no_more_while_the_database_is_made_is_a_message(data_dir: Path) -> None:
    # As on a full disk, the database's files can't be written: here they may only be small.
    command = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *QUIRE, "serve", "--data-dir"]
    done = subprocess.run(
        [*command, str(data_dir)], env=environment(), capture_output=True, timeout=120, check=False
    )
    assert_refused(done)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_refusal_of_the_database_is_a_message(database: Database) -> None:
    url = urlsplit(database.server_url)._replace(path="/no_such_database").geturl()
    refused = {"QUIRE_DATABASE_URL": url}
    for command in (["migrate"], ["serve"], ["retention", "status"]):
        client = {"QUIRE_URL": "", "QUIRE_API_KEY": ""}
        done = quire(*command, settings={**client, "QUIRE_PORT": free_port(), **refused})
        assert_refused(done, "no_such_database")


def test_every_command_is_behind_the_check() -> None:
    for leaf in LEAVES:
        for parameter in leaf.command.params:
            if not isinstance(parameter.type, click.Path | click.File):
                assert parameter.callback is not None, (words(leaf), parameter.name)
    assert main.name == "main"
