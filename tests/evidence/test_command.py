"""`quire-verify` as a process, as its users run it: files in, exit code out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.evidence.cli import main
from ledger.evidence.verdict import CHECKS
from ledger.timestamp import granted, query
from tests.support.evidence import WITNESS, entries, scene, write_log
from tests.support.signing import log_keys
from tests.support.timestamp_authority import TimestampAuthority

COMMAND = Path(sys.executable).parent / "quire-verify"
ENTRIES = 10_000
SERVER_ONLY = ("asyncpg", "litestar", "aiobotocore", "click", "rich", "structlog", "uvicorn")
NOT_AT_START = (
    *SERVER_ONLY,
    "httpx2",
    "rfc3161_client",
    "asyncio",
    "ledger.core",
    "ledger.storage",
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "evidence.zip"
    path.write_bytes(scene().bundle())
    return path


@pytest.fixture(scope="module")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trust") / "keys.json"
    path.write_bytes(log_keys().public().pins().document())
    return path


def test_a_good_bundle(bundle: Path, pins: Path) -> None:
    done = run(bundle, "--trust", pins)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[:21].strip() for line in done.stdout.splitlines()}
    assert set(CHECKS) <= rows
    assert "VERIFIED: every check that was asked for was made and holds" in done.stdout


def test_a_good_bundle_without_a_pin(bundle: Path) -> None:
    done = run(bundle)
    assert (done.returncode, done.stderr) == (3, "")
    said = " ".join(done.stdout.split())
    assert "INCOMPLETE: nothing that was checked is false, but this was not checked: keys" in said
    assert "verify with --trust keys.json" in said


def test_a_damaged_bundle(bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(
        bundle.read_bytes().replace(b'"outcome":"success"', b'"outcome":"failure"', 1)
    )
    done = run(damaged)
    assert done.returncode == 1
    assert "REFUTED" in done.stdout
    assert "leaves/000000.ndjson is not what the manifest says" in " ".join(done.stdout.split())


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "empty.zip").touch()
    for name in ("empty.zip", "missing.zip", "."):
        done = run(tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"quire-verify: {tmp_path / name}: ")
    assert run(tmp_path / "missing.zip", "--json").returncode == 2
    missing = tmp_path / "missing.zip"
    told = json.loads(run(missing, "--json").stdout)["unreadable"]
    assert told == f"{missing} can't be read: No such file or directory"


@pytest.mark.parametrize("option", ["--trust", "--policy", "--tsa-ca"])
def test_a_malformed_file_of_trust_is_named(bundle: Path, tmp_path: Path, option: str) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"hi")
    done = run(bundle, option, wrong, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["unreadable"].startswith(f"{wrong}: ")


def test_nothing_or_two_things_to_verify(bundle: Path) -> None:
    for arguments in ((), (bundle, "--log", "."), ("--unknown",)):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "quire-verify" in done.stderr


def test_json_has_everything(bundle: Path) -> None:
    done = run(bundle, "--json")
    report = json.loads(done.stdout)
    assert list(report["checks"]) == list(CHECKS)
    assert report["checks"]["tree"] is True
    assert report["checks"]["signatures"] == "not_checked"
    assert (report["verdict"], report["exit_code"]) == ("incomplete", done.returncode)
    assert "keys" in report["asked"]
    assert set(report["reasons"]) == set(CHECKS)
    assert report["about"]["entries"] == 12


def test_trust_in_files(bundle: Path, tmp_path: Path, shared_authority: TimestampAuthority) -> None:
    stamped = tmp_path / "stamped.zip"
    made = scene().stamped(lambda note: granted(shared_authority.reply(query(note, 7))))
    stamped.write_bytes(made.bundle())
    pins, policy = tmp_path / "keys.json", tmp_path / "policy"
    policy.write_text(f"witness w1 {WITNESS.vkey()}\nquorum w1\n")
    trust = ["--trust", pins, "--policy", policy, "--tsa-ca", shared_authority.ca_file]
    for document in (log_keys().public().pins().document(), log_keys().public().document()):
        pins.write_bytes(document)
        done = run(stamped, *trust, "--json")
        report = json.loads(done.stdout)
        assert done.returncode == 0, report
        assert [name for name, answer in report["checks"].items() if answer is not True] == [
            "signatures"
        ]
        assert report["warnings"] == []
    assert run(bundle, *trust).returncode == 3
    pins.write_bytes(log_keys(2).public().pins().document())
    assert run(stamped, *trust).returncode == 1


@pytest.mark.parametrize("option", ["--trust", "--policy", "--tsa-ca"])
def test_files_of_trust_that_can_not_be_read(option: str, bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    for content in (None, b"", b"nonsense", bytes(3 << 20)):
        if content is not None:
            bad.write_bytes(content)
        done = run(bundle, option, bad)
        assert (done.returncode, done.stdout) == (2, ""), content
        assert str(bad) in done.stderr


@pytest.mark.parametrize("name", [b"\x1b]0;owned\x07\x1b[2J", b"\xff\xfe.txt", "\u202e".encode()])
def test_file_names_that_no_terminal_should_see(name: bytes, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", entries(3))
    Path(os.fsdecode(bytes(log) + b"/" + name)).touch()
    for option in ((), ("--json",)):
        done = run("--log", log, *option)
        assert (done.returncode, done.stderr) == (3, ""), done
        assert "1 files are not covered" in " ".join(done.stdout.split())
        assert all(char.isprintable() or char == "\n" for char in done.stdout)
        report = json.loads(done.stdout)["warnings"] if option else [done.stdout.replace("\n", "")]
        assert all(warning.isprintable() for warning in report)


@pytest.mark.parametrize("end", [">&-", "2>&- >&-", "> /dev/full"])
def test_an_answer_that_can_not_be_written_refutes_nothing(end: str, bundle: Path) -> None:
    for option in ("", "--json"):
        command = ["sh", "-c", f'"$0" "$1" {option} {end}', str(COMMAND), str(bundle)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 2, done
        if "2>" not in end:
            assert done.stderr.startswith(
                "quire-verify: no verdict, because of an unexpected error ("
            )
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [b"\xff"],
        [b"--bundle", b"Ren\xe9.zip"],
        [b"--log", b"\xff"],
        [b"--log", b"http://127.0.0.1:9/\xff"],
        [b"--log", b"http://127.0.0.1:9/a\nb"],
        [b"--trust", b"\xff", b"x.zip"],
        [b"--policy", b"\xff", b"x.zip"],
        [b"--tsa-ca", b"\xff", b"x.zip"],
        [b"--key", b"\xff", b"--log", b"http://127.0.0.1:9"],
        [b"--\xff"],
    ],
)
def test_bytes_that_are_not_utf_8_refute_nothing(arguments: list[bytes]) -> None:
    done = subprocess.run([COMMAND, *arguments], capture_output=True, check=False, timeout=60)
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (2, b"")
    assert all(words not in said for words in ("Traceback", "unexpected error", "codec"))


class Panic(BaseException):
    """As packages in Rust raise it: not an Exception."""


@pytest.mark.parametrize(
    ("error", "code"), [(Panic("out of bounds"), 2), (KeyboardInterrupt(), 130)]
)
def test_neither_a_panic_nor_an_interruption_refutes(
    bundle: Path,
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("ledger.evidence.cli._judge", broken)
    assert main([str(bundle)]) == code
    assert ("no verdict" in capsys.readouterr().err) is (code == 2)


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(f"\n  {code}  " in said for code in range(4))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("quire-verify ")


def test_the_verifier_loads_no_server_module(bundle: Path) -> None:
    code = (
        "import sys; from ledger.evidence.cli import main; main(sys.argv[1:]);"
        "sys.stderr.write('\\n'.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split("\n"))
    assert "ledger.evidence.verification" in loaded
    assert not loaded.intersection(NOT_AT_START)


def test_ten_thousand_entries(tmp_path: Path, pins: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(scene(ENTRIES).bundle())
    done = run(path, "--trust", pins)
    assert done.returncode == 0, done.stdout
    assert f"{ENTRIES} proofs lead to the checkpoint's root" in " ".join(done.stdout.split())


def test_the_bundle_may_be_named_by_an_option(bundle: Path) -> None:
    assert run("--bundle", bundle).stdout == run(bundle).stdout
    assert run("--bundle", bundle, "--json").returncode == 3
    for twice in ((bundle, "--bundle", bundle), ("--bundle", bundle, "--log", "x"), ()):
        done = run(*twice)
        assert (done.returncode, "name one bundle" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--log", "http://192.0.2.1/"], {"http_proxy": "notaurl://"}, "http_proxy names"),
        (["--log", "http://192.0.2.1/"], {"ALL_PROXY": "socks5://127.0.0.1:9"}, "ALL_PROXY names"),
        (["--log", "http://192.0.2.1/"], {"http_proxy": "http://.invalid:1"}, "http_proxy names"),
        (["--log", "https://192.0.2.1/"], {"SSL_CERT_FILE": "/none"}, "SSL_CERT_FILE names"),
        (["--log", "http://.invalid/"], {}, "can't be read"),
        (["--log", f"http://{'a' * 70}.example/"], {}, "can't be read"),
        (["--log", os.fsdecode(b"http://\xff/")], {}, "characters that no URL has"),
        ([os.fsdecode(b"\xff.zip")], {}, "can't be read"),
        (["--trust", os.fsdecode(b"\xff"), "x.zip"], {}, "can't be read"),
    ],
)
def test_bad_environments_and_arguments_are_unreadable(
    arguments: list[str],
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert "report this as a bug" not in shown.err


@pytest.mark.parametrize("option", ["--trust", "--policy", "--tsa-ca", "--log", "--bundle"])
def test_an_option_given_twice_is_refused(option: str, pins: Path) -> None:
    done = run("x.zip", option, pins, option, "other")
    assert done.returncode == 2
    assert f"{option} is given twice; give it once" in done.stderr


def test_a_folder_is_no_bundle(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert "this is a folder" in done.stderr
    assert "verify the original .zip" in done.stderr


@pytest.mark.parametrize("option", ["--trust", "--policy"])
@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8-sig", "byte order mark"), ("utf-16", "UTF-16")]
)
def test_a_file_in_another_encoding_is_explained(
    bundle: Path, pins: Path, tmp_path: Path, option: str, encoding: str, said: str
) -> None:
    text = pins.read_text() if option == "--trust" else "quorum none\n"
    file = tmp_path / "file"
    file.write_text(text, encoding=encoding)
    done = run(bundle, option, file)
    assert done.returncode == 2
    assert said in done.stderr
    assert "save it as UTF-8" in done.stderr


def test_the_line_ends_of_windows_are_named(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "policy"
    file.write_bytes(b"# a policy\r\nquorum none\r\n")
    done = run(bundle, "--policy", file)
    assert (done.returncode, "this line ends in CRLF" in done.stderr) == (2, True)
