"""`quire keys rotate-signing` on real keyring files."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.keys import MAX_KEYS, SigningKey, SigningKeyring, dump_keyring, parse_keyring
from server.keys.first_start import create_private_file
from tests.cli.commands import invoke, run

SECRET = "a secret of the environment, 32 bytes or more"


def ring_of(count: int) -> SigningKeyring:
    keys = [SigningKey(f"old-{n}", bytes([n % 256]) * 32) for n in range(count)]
    return SigningKeyring(keys, ["old-0"])


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    path = tmp_path / "signing-keys.json"
    create_private_file(path, dump_keyring(ring_of(2)))
    return path


def test_a_key_is_added_and_active_and_the_old_ones_stay(keyring: Path) -> None:
    result = invoke("keys", "rotate-signing", "--data-dir", str(keyring.parent))
    assert result.exit_code == 0
    ring = parse_keyring(keyring.read_bytes())
    assert ring.ids()[:2] == ["old-0", "old-1"]
    assert ring.ids()[2:] == [ring.active.key_id]
    assert [key.secret for key in ring.keys()[:2]] == [key.secret for key in ring_of(2).keys()]
    assert len(ring.active.secret) == 32
    assert result.stdout == f"Signing key {ring.active.key_id} is active.\n"
    assert ring.active.secret.hex() not in result.output
    assert "within seconds" in result.stderr


def test_the_file_is_private_and_nothing_is_left_beside_it(keyring: Path) -> None:
    inode = keyring.stat().st_ino
    assert invoke("keys", "rotate-signing", "--data-dir", str(keyring.parent)).exit_code == 0
    assert stat.S_IMODE(keyring.stat().st_mode) == 0o600
    assert keyring.stat().st_ino != inode  # replaced, not rewritten in place
    assert list(keyring.parent.iterdir()) == [keyring]


def test_rotation_as_json(keyring: Path) -> None:
    result = invoke("keys", "rotate-signing", "--data-dir", str(keyring.parent), "--json")
    document = json.loads(result.stdout)
    ring = parse_keyring(keyring.read_bytes())
    assert document == {"active": ring.active.key_id, "keys": ring.ids(), "file": str(keyring)}


def test_a_key_of_the_environment_goes_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    settings = {"QUIRE_SIGNING_KEYRING": str(path), "QUIRE_AUDIT_SECRET_KEY": SECRET}
    assert invoke("keys", "rotate-signing", settings=settings).exit_code == 0
    before = SigningKeyring.from_secret(SECRET.encode())
    ring = parse_keyring(path.read_bytes())
    assert ring.get(before.active.key_id).secret == SECRET.encode()
    assert ring.active.key_id != before.active.key_id


def test_a_linked_keyring_is_rotated_where_it_is(keyring: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(keyring)
    assert (
        invoke("keys", "rotate-signing", settings={"QUIRE_SIGNING_KEYRING": str(link)}).exit_code
        == 0
    )
    assert link.is_symlink()
    assert len(parse_keyring(keyring.read_bytes()).ids()) == 3


def test_rotations_at_once_lose_no_key(keyring: Path) -> None:
    arguments = ("keys", "rotate-signing", "--json", "--data-dir", str(keyring.parent))
    with ThreadPoolExecutor(6) as threads:
        done = [threads.submit(run, *arguments) for _ in range(6)]
    made = {json.loads(future.result().stdout)["active"] for future in done}
    ring = parse_keyring(keyring.read_bytes())
    assert len(made) == 6
    assert made <= set(ring.ids())
    assert len(ring.ids()) == 8


def test_a_data_directory_without_keyring_is_refused(tmp_path: Path) -> None:
    result = invoke("keys", "rotate-signing", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "There is no keyring to change" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_data_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    result = invoke("keys", "rotate-signing", "--data-dir", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path / 'none'}: No such file or directory")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "must be JSON of this form"),
        (b'{"keys": []}', "holds no key"),
        (b'{"keys": [{"id": "a", "secret": "AAAA", "active": true}]}', "needs at least 32"),
    ],
)
def test_a_broken_keyring_is_not_changed(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "signing-keys.json"
    create_private_file(path, content)
    result = invoke("keys", "rotate-signing", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert message in result.stderr
    assert path.read_bytes() == content


def test_a_full_keyring_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "signing-keys.json"
    content = dump_keyring(ring_of(MAX_KEYS))
    create_private_file(path, content)
    result = invoke("keys", "rotate-signing", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert f"at most {MAX_KEYS} keys" in result.stderr
    assert path.read_bytes() == content


def test_a_keyring_that_others_may_read_is_refused(keyring: Path) -> None:
    keyring.chmod(0o644)
    result = invoke("keys", "rotate-signing", "--data-dir", str(keyring.parent))
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr


def test_the_owner_of_the_file_stays(keyring: Path) -> None:
    # Without root a file can have only one owner, and this one has it.
    owner = 12345 if os.geteuid() == 0 else os.geteuid()
    os.chown(keyring, owner, -1)
    assert invoke("keys", "rotate-signing", "--data-dir", str(keyring.parent)).exit_code == 0
    assert keyring.stat().st_uid == owner
