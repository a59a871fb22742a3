"""Any text in any setting is accepted, or the message says which values are valid; service links."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.settings import SECTIONS, Settings, SettingsError, documented
from server.settings.section import settings_of

VARIABLES = [row.name for row in documented()]
INTERNAL = ("Expected", "`", "regex", "$", "[0-9", "msgspec", "<class", "NoneType", "\\A", "Enum")
# Values an environment can have: no NUL; bytes that are not UTF-8 are surrogates.
TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\udc80\udcff"),
    min_size=1,
)
AWKWARD = st.sampled_from(
    [
        "nan",
        "inf",
        "-0",
        "1e5",
        "1_000",
        " 5",
        "5\n",
        "１",
        "null",
        "None",
        "true ",
        "yes",
        "9" * 5000,
        "~",
        "~nobody-of-quire/x",
        "postgresql://[",
        "postgresql://h:x/d",
        "postgresql://h:99999999/",
        *("http://", "s3://", "file://", "off", "OFF", "INFO", "İnfo", "tcp://10.0.0.1:80", "://"),
    ]
)


@given(st.sampled_from(VARIABLES), TEXT | AWKWARD)
def test_any_text_is_accepted_or_explained(variable: str, text: str) -> None:
    try:
        Settings.from_env({variable: text})
    except SettingsError as error:
        message = str(error)
        assert variable in message
        shown = message.replace(f'"{text}"', "")
        assert not any(word in shown for word in INTERNAL), message


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QUIRE_PORT", "http", '"http" is not a whole number from 1 to 65,535'),
        ("QUIRE_PORT", "0", '"0" is not a whole number from 1 to 65,535'),
        ("QUIRE_WORKERS", "many", '"many" is not a whole number from 1 to 64'),
        ("QUIRE_ANCHOR_SECONDS", "nan", '"nan" is not a number from 0.05 to 86,400'),
        ("QUIRE_CHECKPOINTS", "maybe", '"maybe" is not true or false'),
        ("QUIRE_LOG_LEVEL", "loud", "one of critical, debug, error, info, warning"),
        ("QUIRE_LOG_FORMAT", "xml", "one of console, json"),
        ("QUIRE_DATABASE_URL", "mysql://h", "not a URL of PostgreSQL: postgresql://"),
        ("QUIRE_DATABASE_URL", "postgresql://u:p/w@h/d", "its host or port can't be read"),
        ("QUIRE_TSA_URL", "tsa.example", "begins with http:// or https://"),
        ("QUIRE_ADD_ORG", "Ärger", "the slug of an org"),
        ("QUIRE_LOG_ORIGIN", "UPPER", "in lower case"),
        ("QUIRE_ARCHIVE_URL", "ftp://x", "file:///folder, s3://bucket/prefix, or off"),
        (
            "QUIRE_DATA_DIR",
            "~nobody-of-quire/x",
            "home directory of a user that this machine does not have",
        ),
        ("QUIRE_HOST", "h\udcff", "not UTF-8 text"),
        ("QUIRE_LOG_LEVEL", "\udcff", "not UTF-8 text"),
        ("QUIRE_PORT", "\udcff", "not UTF-8 text"),
        ("QUIRE_ANCHOR_SECONDS", "1\udcff", "not UTF-8 text"),
        ("QUIRE_CHECKPOINTS", "\udcff", "not UTF-8 text"),
    ],
)
def test_the_explanation_of_a_bad_value(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: value})
    assert str(caught.value).startswith(f"{variable} (")
    assert said in str(caught.value)


def test_every_form_is_described() -> None:
    for setting in settings_of(SECTIONS).values():
        if "pattern" in repr(setting.type) and "Path" not in repr(setting.type):
            assert setting.form, setting.name


@pytest.mark.parametrize("level", ["INFO", "Info", "info", "iNfO"])
def test_words_are_accepted_in_any_case(level: str) -> None:
    settings = Settings.from_env({"QUIRE_LOG_LEVEL": level, "QUIRE_LOG_FORMAT": "JSON"})
    assert (settings.log_level, settings.log_format) == ("info", "json")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@h1:1,h2:2/d",
        "postgres://u:p%2Fw@[::1]:5432/d",
        "postgresql://u@/d?host=%2Fvar%2Frun&port=5432",
        "postgresql://%2Fvar%2Frun/d",
        "postgresql:///d",
    ],
)
def test_accepted_urls_of_a_database(url: str) -> None:
    assert Settings.from_env({"QUIRE_DATABASE_URL": url}).database_url == url


KUBERNETES = {
    "QUIRE_SERVICE_HOST": "10.43.0.5",
    "QUIRE_SERVICE_PORT": "8080",
    "QUIRE_SERVICE_PORT_HTTP": "8080",
    "QUIRE_PORT": "tcp://10.43.0.5:8080",
    "QUIRE_PORT_8080_TCP": "tcp://10.43.0.5:8080",
    "QUIRE_PORT_8080_TCP_PROTO": "tcp",
    "QUIRE_PORT_8080_TCP_PORT": "8080",
    "QUIRE_PORT_8080_TCP_ADDR": "10.43.0.5",
    "QUIRE_DB_PORT": "tcp://10.43.0.6:5432",
    "QUIRE_DB_SERVICE_HOST": "10.43.0.6",
    "QUIRE_LEDGER_SERVICE_PORT_HTTP": "80",
    "QUIRE_LOG_SERVICE_HOST": "fd00::5",
    "QUIRE_LOG_PORT_514_UDP": "udp://[fd00::5]:514",
    "QUIRE_DATABASE_PORT": "sctp://10.43.0.7:5432",
}
DOCKER = {
    "QUIRE_DB_NAME": "/web/quire-db",
    "QUIRE_DB_PORT": "tcp://172.17.0.5:5432",
    "QUIRE_DB_PORT_5432_TCP": "tcp://172.17.0.5:5432",
    "QUIRE_DB_PORT_5432_TCP_START": "tcp://172.17.0.5:5432",
    "QUIRE_DB_PORT_5432_TCP_PORT_END": "5433",
    "QUIRE_DB_ENV_POSTGRES_PASSWORD": "s3cret ://",
    "QUIRE_DB_ENV_PG_MAJOR": "18",
}


@pytest.mark.parametrize("name", KUBERNETES)
def test_each_service_link_is_left_out(name: str) -> None:
    assert Settings.from_env({name: KUBERNETES[name]}) == Settings()


@pytest.mark.parametrize("links", [KUBERNETES, DOCKER], ids=["kubernetes", "docker"])
def test_service_links_change_nothing(
    links: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = Settings.from_env({**links, "QUIRE_WORKERS": "2"})
    assert settings == Settings(workers=2)
    assert ("QUIRE_PORT is a service link" in caplog.text) is ("QUIRE_PORT" in links)


def test_a_proper_setting_counts_beside_service_links() -> None:
    assert Settings.from_env({**KUBERNETES, "QUIRE_PORT": "9000"}).port == 9000
    assert Settings.from_env(KUBERNETES, {"port": 9001}).port == 9001
    url = "postgresql://u@10.43.0.6:5432/d"
    assert Settings.from_env({**KUBERNETES, "QUIRE_DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUIRE_PROT", "8080"),
        ("QUIRE_PORTS", "tcp://10.43.0.5:8080"),
        ("QUIRE_WORKER", "2"),
        ("QUIRE_HOTS", "10.43.0.5"),
        ("QUIRE_DATABASE_ULR", "postgresql://h/d"),
        ("QUIRE_DB_PORT", "5432"),
        ("QUIRE_DB_PORT", "http://10.43.0.6:5432"),
        ("QUIRE_DB_PORT", "tcp://10.43.0.6:99999"),
        ("QUIRE_SERVICE_HOST", "example.com/x"),
        ("QUIRE_PORT_8080_TCP_PROTO", "http"),
        ("QUIRE_DB_NAME", "db"),
        ("QUIRE_DB_ENV_X", "1"),
        ("QUIREDB_PORT_X", "y"),
    ],
)
def test_a_name_that_is_not_a_service_link_is_refused(name: str, value: str) -> None:
    if not name.startswith("QUIRE_"):
        assert Settings.from_env({name: value}) == Settings()
        return
    with pytest.raises(SettingsError, match=f"{name} is not a setting"):
        Settings.from_env({name: value})


def test_a_link_in_another_form_is_explained() -> None:
    with pytest.raises(SettingsError, match="enableServiceLinks: false"):
        Settings.from_env({"QUIRE_DB_PORT": "http://10.43.0.6:5432"})


def test_a_path_may_be_any_bytes() -> None:
    assert Settings.from_env({"QUIRE_DATA_DIR": "/srv/\udcff"}).data_dir == Path("/srv/\udcff")
