"""`quire keys platform` replaces a lost or leaked platform key of a real server."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest

from server.access.keys.platform_keys import KeyFile
from server.process.runs.banner import banner
from server.process.serve import prepare
from tests.cli.commands import call, run
from tests.support.clusters import blocking
from tests.support.serving import MASTER_KEY, SIGNING_KEY, Server


def settings_of(server: Server, **more: str) -> dict[str, str]:
    return {
        "QUIRE_DATABASE_URL": server.database.server_url,
        "QUIRE_DATABASE_OWNER_URL": server.database.owner_url,
        "QUIRE_DATA_DIR": str(server.settings.data_dir),
        "QUIRE_MASTER_KEY": MASTER_KEY,
        "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
        **more,
    }


def opens(server: Server, key: str) -> bool:
    return server.request("GET", "/v1/orgs", key=key).status == 200


def path_of(server: Server) -> Path:
    return server.settings.data_dir / "platform.key"


def test_a_lost_key_is_replaced(server: Server) -> None:
    assert opens(server, server.platform_key)
    path_of(server).unlink()
    done = run("keys", "platform", "rotate", settings=settings_of(server))
    assert done.returncode == 0, done.stderr
    assert str(path_of(server)) in done.stdout.decode()
    assert b"1 older platform key revoked" in done.stderr
    new = path_of(server).read_text().strip()
    assert path_of(server).stat().st_mode & 0o777 == 0o600
    assert new not in (done.stdout + done.stderr).decode()
    assert opens(server, new)
    assert not opens(server, server.platform_key)
    again = call("keys", "platform", "rotate", "--keep", "--json", settings=settings_of(server))
    assert json.loads(again.stdout)["revoked"] == []
    assert opens(server, new)
    assert opens(server, path_of(server).read_text().strip())
    listed = call("keys", "platform", "list", "--json", settings=settings_of(server))
    keys = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [key["revoked_at"] is None for key in keys] == [False, True, True]
    assert len(call("keys", "platform", "list", settings=settings_of(server)).stdout.split()) > 12


def test_a_leaked_key_can_be_revoked_but_not_the_last_key(server: Server) -> None:
    settings = settings_of(server)
    call("keys", "platform", "rotate", "--keep", settings=settings)
    listed = call("keys", "platform", "list", "--json", settings=settings).stdout.splitlines()
    first, second = (json.loads(line)["id"] for line in listed)
    assert call("keys", "platform", "revoke", first, settings=settings).returncode == 0
    assert not opens(server, server.platform_key)
    for key_id, reason in (
        (second, b"is the last"),
        (first, b"No valid platform key"),
        ("x", b"No valid pl"),
    ):
        done = call("keys", "platform", "revoke", key_id, settings=settings)
        assert done.returncode == 2
        assert reason in done.stderr


@pytest.mark.parametrize("command", ["rotate", "list", "revoke"])
def test_another_master_key_changes_nothing(server: Server, command: str) -> None:
    before = path_of(server).read_bytes()
    arguments = ("x",) if command == "revoke" else ()
    settings = settings_of(server, QUIRE_MASTER_KEY="22" * 32)
    done = call("keys", "platform", command, *arguments, settings=settings)
    assert done.returncode == 2
    assert b"is not the one of this database" in done.stderr
    assert path_of(server).read_bytes() == before
    assert opens(server, server.platform_key)


def state(server: Server) -> KeyFile:
    found = blocking(prepare(server.settings, server.database.server_url)).platform
    line = next(
        line
        for line in banner(server.settings, "http://q", found).splitlines()
        if "Platform" in line
    )
    assert ("quire keys platform rotate" in line) is (found is not KeyFile.VALID)
    return found


def test_the_start_reports_whether_the_key_file_is_valid(server: Server) -> None:
    path = path_of(server)
    own = path.read_bytes()
    assert state(server) is KeyFile.VALID
    path.unlink()
    assert state(server) is KeyFile.MISSING
    assert not path.exists(), "the database has a key: no other is made"
    for content, worth in (
        (b"quire_live_" + b"0" * 16 + b"_" + b"1" * 48 + b"\n", KeyFile.FOREIGN),
        (own[:-3] + b"00\n", KeyFile.FOREIGN),
        (b"torn", KeyFile.FOREIGN),
        (b"", KeyFile.UNREADABLE),
        (own, KeyFile.VALID),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        assert state(server) is worth
        assert path.read_bytes() == content
    assert call("keys", "platform", "rotate", settings=settings_of(server)).returncode == 0
    assert state(server) is KeyFile.VALID
    path.write_bytes(own)
    assert state(server) is KeyFile.FOREIGN, "it was revoked"


def test_a_key_that_was_used_before_is_not_taken_for_a_new_one(server: Server) -> None:
    async def revoke_all() -> None:
        connection = await asyncpg.connect(server.database.owner_url)
        await connection.execute("UPDATE api_keys SET revoked_at = now()")
        await connection.close()

    blocking(revoke_all())
    assert state(server) is KeyFile.FOREIGN, "it stops no server"
    path_of(server).unlink()
    assert state(server) is KeyFile.VALID


def test_the_signing_key_is_needed_as_the_change_is_an_entry(server: Server) -> None:
    settings = settings_of(server)
    del settings["QUIRE_AUDIT_SECRET_KEY"]
    refused = call("keys", "platform", "rotate", settings=settings)
    assert refused.returncode == 2
    assert b"signing key is missing" in refused.stderr
    assert opens(server, server.platform_key)
