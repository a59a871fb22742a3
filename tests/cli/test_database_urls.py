"""A URL of the database that can't be used is explained by what it names."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.commands import invoke

AT = "postgresql://u@127.0.0.1:1/d"
INTERNAL = ("Errno", "<built-in", "`", "('", "not UTF-8", "Unexpected")


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        (
            f"{AT}?sslmode=verify-full&sslrootcert=/none",
            {},
            "sslrootcert names /none: No such file",
        ),
        (f"{AT}?sslmode=require&sslcert=/none", {}, "sslcert names /none: No such file"),
        (f"{AT}?sslmode=require&sslkey=/none&sslcert=/none", {}, "sslcert names /none"),
        (f"{AT}?sslmode=verify-ca", {"PGSSLROOTCERT": "/none"}, "sslrootcert names /none"),
        (f"{AT}?sslmode=verify-ca", {"PGSSLROOTCERT": "/"}, "sslrootcert names /: Is a directory"),
        (f"{AT}?sslmode=verify-ca", {"PGSSLROOTCERT": __file__}, f"sslrootcert names {__file__}"),
        (f"{AT}?sslmode=foo", {}, '"sslmode" parameter must be one of: disable'),
        (f"{AT}?target_session_attrs=foo", {}, "expected to be one of any, primary, standby"),
        ("postgresql://u@/d?host=/none&port=1", {}, "PostgreSQL's socket in /none"),
        ("postgresql://u@%2Fnone/d", {}, "PostgreSQL's socket in /none"),
        ("postgresql://u@/d", {"PGHOST": "/none"}, "PostgreSQL's socket in /none"),
        (AT, {}, "Connect call failed 127.0.0.1 port 1"),
        (f"postgresql://{'a' * 70}.x/d", {}, "its host or port can't be read"),
        ("postgresql://a..b/d", {}, "its host or port can't be read"),
    ],
)
@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_what_cannot_be_used_is_named(
    command: str, url: str, more: dict[str, str], said: str, tmp_path: Path
) -> None:
    settings = {
        "QUIRE_DATABASE_URL": url,
        "QUIRE_DATA_DIR": str(tmp_path),
        "QUIRE_AUDIT_SECRET_KEY": "k" * 32,
        "QUIRE_MASTER_KEY": "5f" * 32,
        "QUIRE_HOST": "127.0.0.1",
    }
    if command == "serve":
        settings["QUIRE_PORT"] = free_port()
    result = invoke(command, settings={**settings, **more})
    assert result.exit_code == 2
    assert said in result.stderr, result.stderr
    assert not [word for word in INTERNAL if word in result.stderr], result.stderr


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
