"""The log keys at a start: made once, read from file or environment, never replaced."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from ledger.errors import ClockUnsteady, KeyHistoryError
from ledger.log_keys import check_base_origin, dump_log_keys, parse_log_keys
from server.keys.first_start import SecretsError, create_private_file, load_log_keys, read_log_keys
from server.settings import LOG_ORIGIN, Settings, SettingsError
from tests.support.log_keys import NOW_US, ORIGIN, keys

EXTERNAL = "postgresql://quire_server@db.example/quire"
CONTENT = dump_log_keys(keys(2))


def settings_of(tmp_path: Path, **more: object) -> Settings:
    return Settings.from_env({}, {"data_dir": tmp_path / "data", **more})


def refusal(settings: Settings, *, log_is_new: bool) -> str:
    with pytest.raises(SecretsError) as caught:
        load_log_keys(settings, log_is_new=log_is_new)
    return str(caught.value)


@pytest.mark.parametrize("database", [None, EXTERNAL])
def test_a_new_log_gets_a_key_that_only_its_owner_reads(
    tmp_path: Path, database: str | None
) -> None:
    settings = settings_of(tmp_path, database_url=database)
    made = load_log_keys(settings, log_is_new=True)
    assert settings.log_keys_path == settings.data_dir / "log-keys.json"
    assert stat.S_IMODE(settings.log_keys_path.stat().st_mode) == 0o600
    assert list(settings.data_dir.iterdir()) == [settings.log_keys_path]
    assert parse_log_keys(settings.log_keys_path.read_bytes()).active_id == made.active_id
    for log_is_new in (True, False):
        assert load_log_keys(settings, log_is_new=log_is_new).active_id == made.active_id


def test_a_new_key_gets_no_time_while_the_clock_is_wrong(tmp_path: Path) -> None:
    def leapt() -> int:
        raise ClockUnsteady("the clock leapt", retry_after=1)

    settings = settings_of(tmp_path)
    with pytest.raises(ClockUnsteady):
        load_log_keys(settings, log_is_new=True, clock=leapt)
    assert not settings.log_keys_path.exists()
    made = load_log_keys(settings, log_is_new=True, clock=lambda: NOW_US)
    assert made.public().newest.created_us == NOW_US
    assert load_log_keys(settings, log_is_new=False, clock=leapt).active_id == made.active_id


def test_a_log_without_a_configured_name_gets_a_random_one(tmp_path: Path) -> None:
    one = load_log_keys(settings_of(tmp_path / "1"), log_is_new=True)
    two = load_log_keys(settings_of(tmp_path / "2"), log_is_new=True)
    assert one.origin.startswith("quire.local/")
    assert len(one.origin) == len("quire.local/") + 8
    assert one.origin != two.origin


def test_a_log_is_made_under_the_name_of_the_setting_and_keeps_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, log_origin=ORIGIN)
    assert load_log_keys(settings, log_is_new=True).origin == ORIGIN
    assert load_log_keys(settings_of(tmp_path), log_is_new=False).origin == ORIGIN
    message = refusal(settings_of(tmp_path, log_origin="other.example"), log_is_new=True)
    assert "can't be changed" in message


def test_a_named_file_is_made_too(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, log_keys=tmp_path / "named.json")
    made = load_log_keys(settings, log_is_new=True)
    assert parse_log_keys((tmp_path / "named.json").read_bytes()).active_id == made.active_id
    assert not settings.data_dir.exists()


def test_a_named_file_in_no_directory_is_refused(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, log_keys=tmp_path / "none" / "named.json")
    assert "cannot be written" in refusal(settings, log_is_new=True)


def test_a_lost_key_is_never_made_again(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    load_log_keys(settings, log_is_new=True)
    settings.log_keys_path.unlink()
    message = refusal(settings, log_is_new=False)
    assert str(settings.log_keys_path) in message
    assert "backup" in message
    assert not settings.log_keys_path.exists()
    assert read_log_keys(settings) is None


def test_two_starts_at_once_agree_on_the_key_of_the_logs(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        starts = [threads.submit(load_log_keys, settings, log_is_new=True) for _ in range(8)]
        found = [start.result() for start in starts]
    assert len({one.active_id for one in found}) == 1
    assert len({one.origin for one in found}) == 1


def test_keys_of_the_environment_need_no_file(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, log_signing_keys=CONTENT.decode())
    assert load_log_keys(settings, log_is_new=False).active_id == keys(2).active_id
    assert not settings.data_dir.exists()


def test_broken_keys_of_the_environment_are_refused_by_name(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, log_signing_keys="do-not-show\udcff")
    message = refusal(settings, log_is_new=True)
    assert message.startswith("QUIRE_LOG_SIGNING_KEYS: the log key file can't be read")
    assert "do-not-show" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", CONTENT[:-10], CONTENT.replace(b'"v": 1', b'"v": 2')],
    ids=["empty", "no keys", "cut", "another version"],
)
def test_a_broken_file_is_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    settings = settings_of(tmp_path)
    settings.data_dir.mkdir()
    create_private_file(settings.log_keys_path, content)
    assert refusal(settings, log_is_new=True).startswith(f"{settings.log_keys_path}: ")
    assert settings.log_keys_path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_log_keys_readable_by_others_are_refused(tmp_path: Path, mode: int) -> None:
    settings = settings_of(tmp_path)
    load_log_keys(settings, log_is_new=True)
    settings.log_keys_path.chmod(mode)
    assert f"chmod 600 {settings.log_keys_path}" in refusal(settings, log_is_new=False)


def test_the_settings_of_the_logs() -> None:
    environ = {"QUIRE_LOG_ORIGIN": "audit.example.com:8443/a", "QUIRE_LOG_KEYS": "/srv/log.json"}
    settings = Settings.from_env(environ)
    assert settings.log_origin == "audit.example.com:8443/a"
    assert settings.log_keys_path == Path("/srv/log.json")
    with pytest.raises(SettingsError, match="both set: use one"):
        Settings.from_env({**environ, "QUIRE_LOG_SIGNING_KEYS": "{}"})
    shown = repr(Settings.from_env({"QUIRE_LOG_SIGNING_KEYS": "do-not-show"}))
    assert "do-not-show" not in shown
    assert "log_signing_keys=***" in shown


@pytest.mark.parametrize(
    "origin",
    ["q", "a.b:1/c", "A", "a/", "/a", "a//b", "https://a", "a b", "a\n", "a" * 180, "a" * 181, "ä"],
)
def test_the_setting_accepts_exactly_the_names_of_the_format(origin: str) -> None:
    try:
        check_base_origin(origin)
    except KeyHistoryError:
        with pytest.raises(SettingsError, match="QUIRE_LOG_ORIGIN"):
            Settings.from_env({"QUIRE_LOG_ORIGIN": origin})
    else:
        assert Settings.from_env({"QUIRE_LOG_ORIGIN": origin}).log_origin == origin
    assert msgspec.Meta(pattern=LOG_ORIGIN).pattern == LOG_ORIGIN
