"""`quire keys log` on real key files."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.checkpoint import TreeHead
from ledger.core.clock import SECOND_US, read_clocks
from ledger.log_keys import (
    KEYS_MAX,
    KeyPins,
    LogKeyHistory,
    anchor_origin,
    dump_log_keys,
    open_anchor,
    parse_log_keys,
)
from ledger.note import parse_vkey, sign_note
from server.keys.first_start import create_private_file
from server.trails.clock_note import NAME, ClockNote, NoteFile, boot_name
from tests.cli.commands import invoke, run
from tests.support.log_keys import ORIGIN, anchor_note, keys


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "log-keys.json"
    create_private_file(path, dump_log_keys(keys(2)))
    return path


def test_the_history_is_shown_without_a_secret(key_file: Path) -> None:
    result = invoke("keys", "log", "show", "--data-dir", str(key_file.parent))
    assert result.exit_code == 0
    first, second = keys(2).public().keys
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["Logs", "of", ORIGIN]
    assert parse_vkey(lines[2].split()[1]).name == f"{ORIGIN}/anchors"
    assert lines[-2].split() == [
        first.id, "2026-01-01", "12:00:00", "2026-01-01", "12:00:00", first.digest
    ]  # fmt: skip
    assert lines[-1].split() == [second.id, "2026-01-01", "12:00:00", "-", second.digest]
    assert json.loads(key_file.read_bytes())["active"]["ed25519_seed"] not in result.output


def test_the_history_as_json_is_the_signed_one(key_file: Path) -> None:
    result = invoke("keys", "log", "show", "--json", "--data-dir", str(key_file.parent))
    history = LogKeyHistory.parse(result.stdout_bytes)
    assert history.document() == keys(2).public().document()
    assert result.stdout_bytes.count(b"\n") == 1


def test_the_pins_match_the_history(key_file: Path) -> None:
    result = invoke("keys", "log", "show", "--pins", "--data-dir", str(key_file.parent))
    keys(3).public().check_pins(KeyPins.parse(result.stdout_bytes))


def test_keys_of_the_environment_are_shown() -> None:
    settings = {"QUIRE_LOG_SIGNING_KEYS": dump_log_keys(keys(1)).decode()}
    result = invoke("keys", "log", "show", "--json", settings=settings)
    assert LogKeyHistory.parse(result.stdout_bytes).newest.id == keys(1).active_id


def test_rotation_appoints_a_key_that_signs_and_the_old_notes_stay(key_file: Path) -> None:
    result = invoke("keys", "log", "rotate", "--data-dir", str(key_file.parent))
    assert result.exit_code == 0
    rotated = parse_log_keys(key_file.read_bytes())
    assert result.stdout == f"Log key {rotated.active_id} is active.\n"
    assert "keep a copy" in result.stderr
    history = rotated.public()
    history.check_extends(keys(2).public())
    assert history.keys[:2] != keys(2).public().keys  # the second key is retired now
    assert len(history.keys) == 3
    assert open_anchor(anchor_note(keys(2)), history).key.position == 1
    text = TreeHead(anchor_origin(ORIGIN), 4, bytes(32)).text()
    assert open_anchor(sign_note(text, rotated.anchor_signers()), history).key.position == 2


def test_rotation_leaves_no_seed_of_the_old_key(key_file: Path) -> None:
    old = json.loads(key_file.read_bytes())["active"]
    assert invoke("keys", "log", "rotate", "--data-dir", str(key_file.parent)).exit_code == 0
    content = key_file.read_text()
    assert old["id"] in content
    assert old["ed25519_seed"] not in content
    assert old["ml_dsa_44_seed"] not in content


def test_the_key_file_is_private_and_nothing_is_left_beside_it(key_file: Path) -> None:
    result = invoke("keys", "log", "rotate", "--json", "--data-dir", str(key_file.parent))
    rotated = parse_log_keys(key_file.read_bytes())
    assert json.loads(result.stdout) == {
        "active": rotated.active_id,
        "keys": [key.id for key in rotated.public().keys],
        "file": str(key_file),
    }
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert list(key_file.parent.iterdir()) == [key_file]


def test_a_linked_key_file_is_rotated_where_it_is(key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(key_file)
    result = invoke("keys", "log", "rotate", settings={"QUIRE_LOG_KEYS": str(link)})
    assert result.exit_code == 0
    assert link.is_symlink()
    assert len(parse_log_keys(key_file.read_bytes()).public().keys) == 3


def test_rotations_at_once_make_one_chain(key_file: Path) -> None:
    arguments = ("keys", "log", "rotate", "--json", "--data-dir", str(key_file.parent))
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(run, *arguments) for _ in range(4)]
    made = {json.loads(future.result().stdout)["active"] for future in done}
    history = parse_log_keys(key_file.read_bytes()).public()
    assert len(made) == 4
    assert made == {key.id for key in history.keys[2:]}


@pytest.mark.parametrize("command", ["show", "rotate"])
def test_no_key_file_is_a_refusal(tmp_path: Path, command: str) -> None:
    result = invoke("keys", "log", command, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "There is no log key yet" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["show", "rotate"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "the log key file can't be read"),
        (b'{"active": {}}', "the log key file can't be read"),
    ],
)
def test_a_broken_key_file_is_not_changed(
    tmp_path: Path, command: str, content: bytes, message: str
) -> None:
    path = tmp_path / "log-keys.json"
    create_private_file(path, content)
    result = invoke("keys", "log", command, "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert message in result.stderr
    assert path.read_bytes() == content


def test_a_full_history_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "log-keys.json"
    content = dump_log_keys(keys(KEYS_MAX))
    create_private_file(path, content)
    result = invoke("keys", "log", "rotate", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert f"at most {KEYS_MAX} keys" in result.stderr
    assert path.read_bytes() == content


def test_a_key_file_that_others_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    result = invoke("keys", "log", "rotate", "--data-dir", str(key_file.parent))
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr


def test_keys_of_the_environment_are_not_rotated() -> None:
    settings = {"QUIRE_LOG_SIGNING_KEYS": dump_log_keys(keys(1)).decode()}
    result = invoke("keys", "log", "rotate", settings=settings)
    assert result.exit_code == 2
    assert "come from QUIRE_LOG_SIGNING_KEYS" in result.stderr


def test_no_key_is_rotated_while_the_clock_is_wrong(key_file: Path) -> None:
    folder, before, day_us = key_file.parent, key_file.read_bytes(), 86_400 * SECOND_US
    now, file = read_clocks(), NoteFile(key_file.parent)
    assert file.keep()
    file.write(ClockNote(boot_name(), now.difference_us - day_us, 0, now.wall_us - day_us))
    file.close()
    refused = run("keys", "log", "rotate", "--data-dir", str(folder))
    assert refused.returncode != 0
    assert b"clock is 86,400.0 s ahead" in refused.stderr
    assert key_file.read_bytes() == before
    (folder / NAME).unlink()
    assert run("keys", "log", "rotate", "--data-dir", str(folder)).returncode == 0


@pytest.mark.parametrize(("every", "count"), [([], 1), (["--all"], 2)])
def test_the_verifier_key_of_an_orgs_log(key_file: Path, every: list[str], count: int) -> None:
    result = invoke("log", "vkey", "acme", *every, "--data-dir", str(key_file.parent))
    assert result.exit_code == 0
    expected = [key.vkey() for key in keys(2).public().org_verifiers("acme")]
    assert result.stdout.splitlines() == expected[-count:]
    assert parse_vkey(result.stdout.splitlines()[-1]).name == f"{ORIGIN}/orgs/acme"


def test_the_verifier_keys_of_the_anchor_log(key_file: Path) -> None:
    result = invoke("log", "vkey", "--anchors", "--json", "--data-dir", str(key_file.parent))
    expected = [key.vkey() for key in keys(2).public().anchor_verifiers()]
    assert json.loads(result.stdout) == {"vkeys": expected[-2:]}


@pytest.mark.parametrize("words", [[], ["acme", "--anchors"], ["Not a slug"]])
def test_a_verifier_key_of_nothing_is_refused(key_file: Path, words: list[str]) -> None:
    result = invoke("log", "vkey", *words, "--data-dir", str(key_file.parent))
    assert (result.exit_code, result.stdout) == (2, "")
