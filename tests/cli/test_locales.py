"""A server and its commands under hostile locales, encodings and environment variables."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.process.children.context import CONTEXT, ProcessContext
from server.settings import Settings
from tests.cli.commands import QUIRE, environment
from tests.support.quire_process import QuireProcess
from tests.support.rings import slow
from tests.support.serving import MASTER_KEY, SIGNING_KEY

NAME = "Größe € İı"
LIBPQ = {
    "PGSERVICE": "none",
    "PGHOST": "nowhere.invalid",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "none",
    "PGPASSWORD": "x",
    "PGPASSFILE": "/none",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGOPTIONS": "-c none=1",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "German",
    "PGCLIENTENCODING": "LATIN1",
}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
LOCALES = {
    "ascii": ASCII,
    "posix": {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
    "turkish": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "german": {"LANG": "de_DE", "LC_ALL": "de_DE", "LC_NUMERIC": "de_DE.UTF-8"},
    "none such": {"LC_ALL": "xx_YY.ISO-8859-1", "LANG": "xx_YY.ISO-8859-1", "PYTHONUTF8": "0"},
    "utf-8 elsewhere": {"LC_ALL": "C.UTF-8", "TZ": "Asia/Kolkata", "LANGUAGE": "tr"},
    "latin-1 terminal": {"PYTHONIOENCODING": "latin-1"},
    "unknown encoding": {"LC_ALL": "C", "LC_CTYPE": "nonsense"},
}
QUICK = ("ascii", "turkish")
"""Those that the suite tries; `make test-slow` tries the others."""


@pytest.fixture(scope="module")
def ascii_server(session_dir: Path) -> Iterator[QuireProcess]:
    """A server first started in the ASCII locale, in a folder with a name beyond ASCII."""
    process = QuireProcess(session_dir / "Ort-é-€", workers=2)
    process.settings(**ASCII, **LIBPQ, TZ="Asia/Kolkata")
    process.start()
    yield process
    assert process.terminate() == 0


def command(serving: QuireProcess, locale: str, *arguments: str, stdin: bytes = b"") -> bytes:
    settings = {
        "QUIRE_URL": serving.url,
        "QUIRE_DATA_DIR": str(serving.data_dir),
        "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
        "QUIRE_MASTER_KEY": MASTER_KEY,
        **LIBPQ,
        **LOCALES[locale],
    }
    done = subprocess.run(
        [*QUIRE, *arguments],
        env=environment(settings),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "locale", [locale if locale in QUICK else slow(locale) for locale in LOCALES]
)
def test_commands_mean_the_same_in_every_locale(ascii_server: QuireProcess, locale: str) -> None:
    org = f"org-{list(LOCALES).index(locale)}"
    command(ascii_server, locale, "orgs", "create", org, "--name", NAME)
    event = json.dumps({"actor": NAME, "event_type": "I"}, ensure_ascii=False).encode()
    command(ascii_server, locale, "append", org, stdin=event + b"\n")
    listed = command(ascii_server, locale, "entries", "list", org, "--actor", NAME, "--json")
    assert json.loads(listed)["payload"]["actor"] == NAME
    table = command(ascii_server, locale, "entries", "list", org)
    if locale == "latin-1 terminal":
        assert "Größe \\u20ac".encode("latin-1") in table
    else:
        assert NAME in table.decode()
    if locale == "ascii":
        assert b"VERIFIED" in command(ascii_server, locale, "verify", org)
        command(ascii_server, locale, "keys", "platform", "list")


def test_the_embedded_database_is_the_same_in_every_locale(ascii_server: QuireProcess) -> None:
    said = command(ascii_server, "turkish", "retention", "status", "--json")
    assert json.loads(said)["gone"] == []
    log = ascii_server.log.read_text()
    assert "Traceback" not in log
    assert "is started again" not in log
    assert f"{ascii_server.data_dir}/platform.key" in log, "the banner"
    config = (ascii_server.data_dir / "postgres" / "data" / "postgresql.conf").read_text()
    assert re.search(r"^lc_messages = '?C'?\b", config, re.MULTILINE)
    environ = Path(f"/proc/{ascii_server.postmaster()}/environ").read_bytes()
    assert b"TZ=UTC" in environ
    assert b"PGTZ" not in environ


def test_child_processes_receive_settings_of_any_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env(
        {
            "QUIRE_DATA_DIR": "/srv/\udcff",
            "QUIRE_AUDIT_SECRET_KEY": "\udcfe" * 32,
            "QUIRE_TSA_URL": "https://tsa.example/é",
            "QUIRE_TSA_CA": "ca\udc80.pem",
        }
    )
    spelled = ProcessContext(settings, "postgresql://h/d").encoded()
    assert spelled.isascii()
    monkeypatch.setenv(CONTEXT, spelled)
    assert ProcessContext.from_environment().settings == settings
