"""The SQL of docs/database.md is all that an operator runs before the first start."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import psutil

from ledger.storage.database import RETENTION_ROLE, SERVER_ROLE, SIGNER_ROLE
from server.embedded import OWNER_ROLE, SUPERUSER, EmbeddedPostgres
from tests.support.clusters import Database, blocking
from tests.support.quire_process import QuireProcess, wait_until_ended
from tests.support.signing import fetch
from tests.support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "database.md"
SECRET = "keep-{}-apart"


def documented() -> list[str]:
    """The statements of the page, each role with a password of its own."""
    (block,) = re.findall(
        r"^```sql\n(CREATE ROLE.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    lines = [line.split(";")[0] for line in block.splitlines()]
    return [re.sub(r"(?<=ROLE )(\w+)(.*)'…'", _with_password, line) for line in lines]


def _with_password(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}'{SECRET.format(found[1])}'"


async def run(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in documented():
            await connection.execute(statement)
    finally:
        await connection.close()


def url_of(postgres: EmbeddedPostgres, role: str) -> str:
    return postgres.url(role, "quire").replace("@", f":{SECRET.format(role)}@", 1)


def test_a_server_starts_signs_and_seals_with_these_roles(
    data_dir: Path, session_dir: Path
) -> None:
    postgres = EmbeddedPostgres(session_dir / "documented-roles")
    postgres.start()
    try:
        blocking(run(postgres.url(SUPERUSER)))
        superuser = postgres.url(SUPERUSER, "quire")
        owner, server_role = (url_of(postgres, role) for role in (OWNER_ROLE, SERVER_ROLE))
        database = Database("quire", owner, server_role, superuser)
        server = QuireProcess(data_dir, None)
        server.settings(
            QUIRE_DATABASE_OWNER_URL=database.owner_url,
            QUIRE_DATABASE_URL=database.server_url,
            QUIRE_DATABASE_SIGNER_URL=url_of(postgres, SIGNER_ROLE),
            QUIRE_DATABASE_RETENTION_URL=url_of(postgres, RETENTION_ROLE),
        )
        server.start()
        try:
            server.create_org("plain")
            signed = "SELECT count(*) > 0 FROM checkpoints WHERE org_id <> 0"
            until(lambda: blocking(fetch(database, signed))[0][0], "nothing is signed")
            _no_process_has_the_login_of_another(server)
        finally:
            assert server.terminate() == 0
        wait_until_ended(server)
    finally:
        postgres.stop()


def _no_process_has_the_login_of_another(server: QuireProcess) -> None:
    """Passwords are in no argument; those of owner, signer and retention in no environment."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert children
    for child in children:
        try:
            command, environment = " ".join(child.cmdline()), "\0".join(child.environ().values())
        except psutil.NoSuchProcess:
            continue
        for role in (OWNER_ROLE, SERVER_ROLE, SIGNER_ROLE, RETENTION_ROLE):
            assert SECRET.format(role) not in command, command
        for role in (OWNER_ROLE, SIGNER_ROLE, RETENTION_ROLE):
            assert SECRET.format(role) not in environment, (command, role)
