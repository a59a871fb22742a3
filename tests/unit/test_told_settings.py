"""The settings that the server's own entries tell: no value of a secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from server.app.features import FEATURES
from server.feature import added_settings
from server.settings import SECTIONS, Settings
from server.settings.section import settings_of
from server.settings.told import SHOWN, ToldSettings, told_settings

KEY = b"k" * 32
SECRET = "correct-horse-battery-staple-000001"
ADDED = added_settings(FEATURES)
SECRETS = {
    "audit_secret_key", "database_owner_url", "database_retention_url", "database_signer_url",
    "database_url", "log_signing_keys", "master_key", "metrics_token", "tsa_url",
}  # fmt: skip


def told(**environ: str) -> ToldSettings:
    return told_under(KEY, environ)


def told_under(key: bytes, environ: dict[str, str]) -> ToldSettings:
    return told_settings(Settings.from_env(environ, added=ADDED), ADDED, key)


def test_these_settings_are_secrets_and_no_other() -> None:
    """A new text is a secret until its section says that it is none: then it is named here."""
    every = settings_of((*SECTIONS, *ADDED))
    assert {name for name, setting in every.items() if setting.secret} == SECRETS
    found = told()
    assert {*found.values, *found.secrets} == {f"QUIRE_{name.upper()}" for name in every}
    assert found.values["QUIRE_MAX_KEYS"] == 1_000


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """Settings that do not say whether they are secret."""

    word: Annotated[str, Meta(description="A word")] = ""
    words: Annotated[tuple[str, ...], Meta(description="Words")] = ()
    maybe: Annotated[str | None, Meta(description="A word, or none")] = None
    other: Annotated[Decimal, Meta(description="A type that no setting has yet")] = Decimal(0)
    number: Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="A number")] = None
    place: Annotated[Path | None, Meta(description="A path")] = None


def test_a_setting_that_does_not_say_whether_it_is_secret_is_one() -> None:
    found = settings_of([Undeclared])
    assert {name for name, setting in found.items() if setting.secret} == {
        "word", "words", "maybe", "other",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_is_told_by_a_keyed_digest(name: str) -> None:
    forms = {"tsa_url": f"https://u:{SECRET}@h/", "metrics_token": SECRET}
    variable = f"QUIRE_{name.upper()}"
    value = forms.get(name, f"postgresql://u:{SECRET}@h/d" if "url" in name else SECRET)
    logins = {"QUIRE_DATABASE_URL": "postgresql://h/d"} if name.startswith("database") else {}
    environ = {**logins, "QUIRE_TSA_CA": "ca.pem", variable: value}
    found = told(**environ)
    assert SECRET not in json.dumps(found)
    assert found.secrets[variable] == told(**environ).secrets[variable]
    assert found.secrets[variable] != told(**{**environ, variable: f"{value}x"}).secrets[variable]
    assert found.secrets[variable] != told_under(b"other", environ).secrets[variable]
    if not logins:
        assert told().secrets[variable] is None


@pytest.mark.parametrize(
    "value", [f"http://u:{SECRET}@h:9000", f"https://{SECRET}@h", f"https://h/?token={SECRET}"]
)
def test_a_url_with_a_login_is_a_secret_wherever_it_stands(value: str) -> None:
    found = told(QUIRE_ARCHIVE_S3_ENDPOINT=value)
    assert SECRET not in json.dumps(found)
    assert found.secrets["QUIRE_ARCHIVE_S3_ENDPOINT"] is not None
    assert "QUIRE_ARCHIVE_S3_ENDPOINT" not in found.values
    assert told(QUIRE_ARCHIVE_S3_ENDPOINT="http://h:9000").values["QUIRE_ARCHIVE_S3_ENDPOINT"]


def test_a_long_text_is_cut_and_still_differs_in_its_end() -> None:
    proxies = ",".join(["192.0.2.1"] * 900)
    one, other = told(QUIRE_TRUSTED_PROXIES=proxies), told(QUIRE_TRUSTED_PROXIES=f"{proxies},::1")
    shown = str(one.values["QUIRE_TRUSTED_PROXIES"])
    assert shown.startswith(proxies[:SHOWN])
    assert len(shown) < SHOWN + 100
    assert shown != other.values["QUIRE_TRUSTED_PROXIES"]


def test_a_path_of_any_bytes_is_told() -> None:
    found = told(QUIRE_TSA_CA="/srv/\udce9.pem")
    assert found.values["QUIRE_TSA_CA"] == "/srv/\\xe9.pem"
