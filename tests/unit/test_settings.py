"""Settings: defaults, bounds, unknown names, and no secret in any output."""

import logging
from pathlib import Path

import pytest

from server.settings import KEY_ALIASES, Settings, SettingsError, documented

SECRET = "correct-horse-battery-staple-000001"


def refusal(environ: dict[str, str], overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ, overrides)
    return str(caught.value)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.embedded
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 1)
    assert settings.signing_keyring_path == Path(".quire/signing-keys.json")


def test_values_are_converted() -> None:
    settings = Settings.from_env(
        {"QUIRE_PORT": "9000", "QUIRE_DATA_DIR": "/srv/q", "QUIRE_LOG_FORMAT": "json", "HOME": "/"}
    )
    assert (settings.port, settings.data_dir, settings.log_format) == (9000, Path("/srv/q"), "json")
    assert settings.master_key_path == Path("/srv/q/master.key")


def test_an_option_overrides_the_environment_unless_it_is_none() -> None:
    settings = Settings.from_env(
        {"QUIRE_PORT": "9000", "QUIRE_HOST": "::1"}, {"port": 9001, "host": None}
    )
    assert (settings.port, settings.host) == (9001, "::1")


def test_an_empty_variable_is_not_set() -> None:
    assert Settings.from_env({"QUIRE_PORT": "", "QUIRE_MASTER_KEY": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUIRE_PORT", "0"),
        ("QUIRE_PORT", "65536"),
        ("QUIRE_PORT", "http"),
        ("QUIRE_PORT", "80.5"),
        ("QUIRE_WORKERS", "0"),
        ("QUIRE_WORKERS", "65"),
        ("QUIRE_MAX_EVENTS", "-1"),
        ("QUIRE_MAX_BODY_BYTES", "0"),
        ("QUIRE_MAX_PAYLOAD_BYTES", "0"),
        ("QUIRE_QUEUE_EVENTS", "many"),
        ("QUIRE_IDEMPOTENCY_DAYS", "0"),
        ("QUIRE_SHUTDOWN_SECONDS", "0"),
        ("QUIRE_POOL_SIZE", "1"),
        ("QUIRE_LOG_LEVEL", "loud"),
        ("QUIRE_LOG_FORMAT", "xml"),
        ("QUIRE_DATABASE_URL", "mysql://localhost"),
        ("QUIRE_TSA_URL", "tsa.example"),
        ("QUIRE_TSA_POLICY", "default"),
        ("QUIRE_TSA_POLICY", "1.02"),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name: str, value: str) -> None:
    assert refusal({name: value}).startswith(name)


def test_an_option_out_of_bounds_is_refused_by_name() -> None:
    assert refusal({}, {"port": 0}).startswith("QUIRE_PORT")


def test_every_problem_is_reported_at_once() -> None:
    message = refusal({"QUIRE_PORT": "x", "QUIRE_WORKERS": "0", "QUIRE_COLOUR": "red"})
    assert all(name in message for name in ("QUIRE_PORT", "QUIRE_WORKERS", "QUIRE_COLOUR"))


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    assert "Did you mean QUIRE_WORKERS?" in refusal({"QUIRE_WORKER": "2"})


def test_names_of_the_client_commands_and_of_other_programs_are_not_ours_to_refuse() -> None:
    assert Settings.from_env({"QUIRE_URL": "u", "QUIRE_API_KEY": "k", "QUIREX": "1"}) == Settings()


@pytest.mark.parametrize("alias", KEY_ALIASES)
def test_older_names_of_the_signing_key_are_read_with_a_warning(
    alias: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert Settings.from_env({alias: SECRET}).audit_secret_key == SECRET
    assert alias in caplog.text
    assert SECRET not in caplog.text


def test_the_proper_name_of_the_signing_key_wins(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_env({"AUDIT_SECRET_KEY": "other", "QUIRE_AUDIT_SECRET_KEY": SECRET})
    assert settings.audit_secret_key == SECRET
    assert "AUDIT_SECRET_KEY is set but not used" in caplog.text


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert "QUIRE_DATABASE_URL is not" in refusal({"QUIRE_DATABASE_OWNER_URL": "postgresql://h/d"})
    assert "QUIRE_TSA_CA is not" in refusal({"QUIRE_TSA_URL": "https://tsa.example"})
    assert "QUIRE_MAX_EVENTS" in refusal({"QUIRE_QUEUE_EVENTS": "9999"})
    assert "QUIRE_POOL_SIZE" in refusal({"QUIRE_WORKERS": "64"})
    external = {"QUIRE_WORKERS": "64", "QUIRE_DATABASE_URL": "postgresql://u@h1:1,h2:2/d"}
    assert Settings.from_env(external).workers == 64


def test_repr_and_messages_show_no_secret() -> None:
    environ = {
        "QUIRE_AUDIT_SECRET_KEY": SECRET,
        "QUIRE_MASTER_KEY": SECRET,
        "QUIRE_DATABASE_URL": f"postgresql://u:{SECRET}@h/d",
        "QUIRE_DATABASE_OWNER_URL": f"postgresql://o:{SECRET}@h/d",
        "QUIRE_TSA_URL": f"https://u:{SECRET}@tsa.example",
        "QUIRE_TSA_CA": "ca.pem",
    }
    assert SECRET not in repr(Settings.from_env(environ))
    assert SECRET not in refusal({**environ, "QUIRE_DATABASE_URL": f"mysql://u:{SECRET}@h/d"})


def test_every_setting_is_documented_by_code() -> None:
    rows = documented()
    assert [row.name for row in rows][:3] == ["QUIRE_HOST", "QUIRE_PORT", "QUIRE_WORKERS"]
    assert all(row.description for row in rows)
    assert next(row for row in rows if row.name == "QUIRE_MAX_BODY_BYTES").default == "16777216"
