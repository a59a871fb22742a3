"""Keys are made once, for a new embedded database, and are never readable by others."""

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger.keys import SigningKeyring, dump_keyring
from server.keys.first_start import SecretsError, create_private_file, load_secrets
from server.settings import Settings

KEY = "0123456789abcdef0123456789abcdef"
EXTERNAL = "postgresql://quire_server@db.example/quire"


def embedded(tmp_path: Path, **more: object) -> Settings:
    return Settings.from_env({}, {"data_dir": tmp_path / "data", **more})


def refusal(settings: Settings, *, database_is_new: bool) -> str:
    with pytest.raises(SecretsError) as caught:
        load_secrets(settings, database_is_new=database_is_new)
    return str(caught.value)


def test_a_new_embedded_database_gets_keys_that_only_their_owner_reads(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    made = load_secrets(settings, database_is_new=True)
    assert len(made.master_key) == 32
    for path in (settings.master_key_path, settings.signing_keyring_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) & 0o066 == 0
    assert sorted(path.name for path in settings.data_dir.iterdir()) == [
        "master.key",
        "signing-keys.json",
    ]


@pytest.mark.parametrize("database_is_new", [True, False])
def test_keys_that_exist_are_read_again(tmp_path: Path, database_is_new: bool) -> None:
    settings = embedded(tmp_path)
    made = load_secrets(settings, database_is_new=True)
    read = load_secrets(settings, database_is_new=database_is_new)
    assert read.master_key == made.master_key
    assert read.keyring.active.secret == made.keyring.active.secret


def test_the_second_key_is_made_when_a_crash_came_between(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    made = load_secrets(settings, database_is_new=True)
    settings.master_key_path.unlink()
    again = load_secrets(settings, database_is_new=True)
    assert again.keyring.active.secret == made.keyring.active.secret
    assert len(again.master_key) == 32


@pytest.mark.parametrize("lost", ["master_key_path", "signing_keyring_path"])
def test_a_lost_key_is_never_made_again(tmp_path: Path, lost: str) -> None:
    settings = embedded(tmp_path)
    load_secrets(settings, database_is_new=True)
    path: Path = getattr(settings, lost)
    path.unlink()
    message = refusal(settings, database_is_new=False)
    assert str(path) in message
    assert "backup" in message
    assert not path.exists()


def test_two_starts_at_once_agree_on_the_keys(tmp_path: Path) -> None:
    settings = embedded(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        starts = [threads.submit(load_secrets, settings, database_is_new=True) for _ in range(8)]
        found = [start.result() for start in starts]
    assert len({one.master_key for one in found}) == 1
    assert len({one.keyring.active.secret for one in found}) == 1


def test_a_private_file_is_never_replaced(tmp_path: Path) -> None:
    create_private_file(tmp_path / "key", b"first")
    with pytest.raises(FileExistsError):
        create_private_file(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize("name", ["master.key", "signing-keys.json"])
def test_a_key_readable_by_others_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    settings = embedded(tmp_path)
    load_secrets(settings, database_is_new=True)
    (settings.data_dir / name).chmod(mode)
    assert f"chmod 600 {settings.data_dir / name}" in refusal(settings, database_is_new=False)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "QUIRE_AUDIT_SECRET_KEY"),
        ({"audit_secret_key": KEY}, "QUIRE_MASTER_KEY"),
        ({"master_key": "00" * 32}, "QUIRE_AUDIT_SECRET_KEY"),
    ],
)
@pytest.mark.parametrize("database_is_new", [True, False])
def test_an_external_database_needs_keys_by_name(
    tmp_path: Path, given: dict[str, str], named: str, database_is_new: bool
) -> None:
    settings = embedded(tmp_path, database_url=EXTERNAL, **given)
    message = refusal(settings, database_is_new=database_is_new)
    assert f"set {named}" in message
    assert 'python3 -c "import secrets; print(secrets.token_hex(32))"' in message
    assert not settings.data_dir.exists()


def test_a_keyring_file_that_was_named_is_not_made(tmp_path: Path) -> None:
    settings = embedded(tmp_path, signing_keyring=tmp_path / "elsewhere.json")
    assert "elsewhere.json" in refusal(settings, database_is_new=True)


def test_a_short_signing_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    settings = embedded(tmp_path, audit_secret_key="tooshort-31-bytes-of-nothing-xx")
    message = refusal(settings, database_is_new=True)
    assert message.startswith("QUIRE_AUDIT_SECRET_KEY: ")
    assert "tooshort" not in message


def test_the_keyring_file_signs_and_the_key_of_the_environment_still_verifies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.json"
    filed = SigningKeyring.from_secret(b"f" * 32, "filed")
    create_private_file(path, dump_keyring(filed))
    settings = embedded(tmp_path, signing_keyring=path, audit_secret_key=KEY)
    keyring = load_secrets(settings, database_is_new=True).keyring
    assert keyring.active.key_id == "filed"
    assert {key.secret for key in keyring.keys()} == {b"f" * 32, KEY.encode()}


@pytest.mark.parametrize("broken", [b"", b"{", b'{"keys": []}'])
def test_a_broken_keyring_file_is_refused_by_name(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "keys.json"
    create_private_file(path, broken)
    settings = embedded(tmp_path, signing_keyring=path)
    assert str(path) in refusal(settings, database_is_new=True)


@pytest.mark.parametrize("byte", [0x00, 0xFB, 0xFF])
def test_the_master_key_may_be_hex_or_base64(tmp_path: Path, byte: int) -> None:
    raw = bytes([byte]) * 32
    for text in (
        raw.hex(),
        raw.hex().upper(),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    ):
        settings = embedded(tmp_path, master_key=text)
        assert load_secrets(settings, database_is_new=True).master_key == raw


@pytest.mark.parametrize("bad", ["00" * 31, "00" * 33, "zz" * 32, "hello", "é" * 32])
def test_a_malformed_master_key_is_refused_without_showing_it(tmp_path: Path, bad: str) -> None:
    message = refusal(embedded(tmp_path, master_key=bad), database_is_new=True)
    assert "QUIRE_MASTER_KEY must be 32 bytes" in message
    assert bad not in message


def test_a_keyring_that_the_settings_name_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.json"
    message = refusal(embedded(tmp_path, signing_keyring=path), database_is_new=True)
    assert message.startswith(f"QUIRE_SIGNING_KEYRING names {path}, which does not exist")
    assert "the database was made with one" not in message
    assert not path.exists()
