"""Settings of a role, a database or postgresql.conf that break the server's assumptions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.errors import DatabaseUnavailable, DatabaseUnfit
from ledger.storage.copy_out import open_snapshot, reader_of
from ledger.storage.database import Database as Pool
from ledger.storage.database import connect, connect_as_owner
from ledger.storage.key_checks import MASTER, KeyCheck, add_checks, known_keys_at
from ledger.storage.migrate import migrate
from ledger.storage.session import SESSION
from ledger.storage.signing import SignerConnection
from tests.support.blocks import TABLE, partition
from tests.support.clusters import Cluster, Database, OwnCluster, blocking
from tests.support.serving import start_server

HOSTILE = {
    "synchronous_commit": "off",
    "search_path": "planted, pg_catalog",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "row_security": "on",
    "exit_on_error": "on",
    "transform_null_equals": "on",
    "statement_timeout": "300",
    "lock_timeout": "300",
    "idle_in_transaction_session_timeout": "300",
    "idle_session_timeout": "300",
    "transaction_timeout": "300",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "enable_nestloop": "off",
    "enable_partition_pruning": "off",
    "enable_sort": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "on",
    "jit_above_cost": "0",
    "default_table_access_method": "heap",
    "default_tablespace": "pg_default",
    # The operator chooses these; the server leaves them unchanged.
    "work_mem": "64kB",
    "check_function_bodies": "off",
    "random_page_cost": "1000",
}
STRONG = ("on", "remote_apply")
SCOPES = (
    "ROLE {role}",
    "DATABASE {database}",
    "ROLE {role} IN DATABASE {database}",
    "ROLE ALL",
    "SYSTEM",
)
PLANTED = f"""
CREATE SCHEMA planted;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
CREATE TABLE planted.{TABLE} (LIKE pg_class);
CREATE TABLE planted.heads (x int);
CREATE TABLE planted.schema_migrations (version int);
CREATE FUNCTION planted.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'no' $$;
CREATE FUNCTION planted.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'no' $$;
CREATE FUNCTION planted.pg_advisory_lock(bigint) RETURNS void LANGUAGE sql AS $$ SELECT $$;
CREATE FUNCTION planted.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$;
CREATE FUNCTION planted.wrong(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
CREATE OPERATOR planted.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = planted.wrong);"""


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def alter_statement(scope: str, role: str, database: str, verb: str) -> str:
    return f"ALTER {scope.format(role=role, database=database)} {verb}"


@pytest.fixture(params=SCOPES)
def hostile_database(request: Any, postgres_cluster: Cluster) -> Iterator[Database]:
    """An empty database with every hostile setting, set in one of the possible ways."""
    database = postgres_cluster.empty()
    known = blocking(known_settings(database.superuser_url))
    values = {
        name: value if name == "search_path" else f"'{value}'"
        for name, value in HOSTILE.items()
        if name in known
    }
    roles: tuple[str, ...] = ("quire_server", "quire_signer", "quire_owner")
    roles = roles[:1] if request.param == "SYSTEM" else roles
    changes = [
        alter_statement(request.param, role, database.name, f"SET {name} = {value}")
        for role in roles
        for name, value in values.items()
    ]
    backs = [alter_statement(request.param, role, database.name, "RESET ALL") for role in roles]
    superuser = database.superuser_url + "&options=" + protective_options(known)
    try:
        blocking(execute(superuser, PLANTED, *changes))
        blocking(reloaded(database.server_url, superuser, "64kB"))
        yield database
    finally:
        blocking(execute(superuser, *backs))
        blocking(reloaded(database.server_url, superuser, "4MB"))
        postgres_cluster.drop(database)


async def reloaded(url: str, superuser: str, work_mem: str) -> None:
    """Reload the configuration files; returns when new connections have their values."""
    await execute(superuser, "SELECT pg_reload_conf()")
    while True:
        connection = await asyncpg.connect(url)
        try:
            if await connection.fetchval("SHOW work_mem") == work_mem:
                return
        finally:
            await connection.close()


async def known_settings(url: str) -> set[str]:
    """The names of the settings that this version of PostgreSQL has."""
    connection = await asyncpg.connect(url)
    try:
        return {row[0] for row in await connection.fetch("SELECT name FROM pg_settings")}
    finally:
        await connection.close()


def protective_options(known: set[str]) -> str:
    """Connection options that keep the hostile settings from the test's own connection."""
    mild = {**SESSION, "transaction_timeout": "0"}
    return "".join(
        f"-c%20{name}%3D{value.replace(' ', '%5C%20')}%20"
        for name, value in mild.items()
        if name != "client_encoding" and name in known
    )


async def settings_of(connection: Any) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY ($1::text[])",
        [*HOSTILE, "application_name"],
    )
    return {row["name"].lower(): row["setting"] for row in rows}


def assert_ours(found: dict[str, str], *changed: str) -> None:
    for name, value in SESSION.items():
        if name not in changed:
            assert found.get(name, value) == value, name
    assert found["synchronous_commit"] in STRONG
    assert found.get("transaction_timeout", "0") == "0"
    assert found["work_mem"] == "64", "what is the operator's stays"


async def test_every_connection_has_our_settings(hostile_database: Database) -> None:
    await migrate(hostile_database.owner_url)
    owner = await connect_as_owner(hostile_database.owner_url)
    server = await connect(hostile_database.server_url)
    try:
        assert_ours(await settings_of(owner))
        assert_ours(await settings_of(server))
    finally:
        await owner.close()
        await server.close()
    pool = await Pool.open(hostile_database.server_url, size=2)
    try:
        async with pool.connection() as first, pool.connection() as second:
            assert_ours(await settings_of(first))
            assert_ours(await settings_of(second))
    finally:
        await pool.close()
    async with SignerConnection.open(hostile_database.signer_url) as signer:
        planned = [name for name in SESSION if name.startswith("enable_")]
        timeouts = ("lock_timeout", "idle_in_transaction_session_timeout")
        assert_ours(await settings_of(signer), *planned, *timeouts)


async def test_no_timeout_ends_a_long_verification(hostile_database: Database) -> None:
    await migrate(hostile_database.owner_url)
    async with open_snapshot(hostile_database.server_url) as snapshot:
        async with reader_of(hostile_database.server_url, snapshot.name):
            await asyncio.sleep(0.5)  # longer than each of the timeouts
        await asyncio.sleep(0.5)
        assert await snapshot.head(1) is None
        assert_ours(
            await settings_of(snapshot._connection),
            "default_transaction_isolation",
            "default_transaction_read_only",
            "enable_sort",
            "enable_bitmapscan",
        )


async def test_the_keys_of_a_database_are_found(hostile_database: Database) -> None:
    await migrate(hostile_database.owner_url)
    own = KeyCheck(MASTER, "", bytes(32))
    pool = await Pool.open(hostile_database.server_url, size=1)
    try:
        await add_checks(pool, [own], lambda _: None)
    finally:
        await pool.close()
    assert (await known_keys_at(hostile_database.owner_url)).checks == [own]


def test_a_server_works_despite_hostile_settings(
    hostile_database: Database, data_dir: Path
) -> None:
    blocking(migrate(hostile_database.owner_url))
    server = start_server(hostile_database, data_dir)
    try:
        for privacy in ("sealed", "plain"):
            org, key = server.create_org(privacy)
            for number in range(3):
                body = {"event_type": "x", "actor": "Renée", "n": number}
                assert (
                    server.request("POST", f"/v1/orgs/{org}/entries", body, key=key).status == 201
                )
            found = server.request(
                "GET", f"/v1/orgs/{org}/entries?actor=Ren%C3%A9e", key=key
            ).json()
            assert [entry["seq"] for entry in found["entries"]] == [2, 1, 0]
            verified = server.request("GET", f"/v1/orgs/{org}/entries/2/verify", key=key)
            assert verified.status in (200, 404, 405)
        ready = server.readiness()
        assert (ready.status, ready.json()["appends"]) == (200, "ok")
    finally:
        server.stop()


async def test_a_stronger_commit_stays(database: Database) -> None:
    change = f"ALTER DATABASE {database.name} SET synchronous_commit = remote_apply"
    await execute(database.superuser_url, change)
    connection = await connect(database.server_url)
    try:
        assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"
    finally:
        await connection.close()


@pytest.mark.parametrize("weak", ["off", "local", "remote_write"])
async def test_a_weaker_commit_is_made_durable(database: Database, weak: str) -> None:
    change = f"ALTER DATABASE {database.name} SET synchronous_commit = {weak}"
    await execute(database.superuser_url, change)
    for connection in (
        await connect(database.server_url),
        await connect_as_owner(database.owner_url),
    ):
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await connection.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("session_replication_role", "replica"),
        ("session_replication_role", "local"),
        ("zero_damaged_pages", "on"),
        ("ignore_checksum_failure", "on"),
    ],
)
@pytest.mark.parametrize("role", ["quire_server", "quire_owner"])
async def test_settings_of_a_superuser_are_refused(
    database: Database, role: str, name: str, value: str
) -> None:
    scope = f"ALTER ROLE {role} IN DATABASE {database.name}"
    await execute(database.superuser_url, f"{scope} SET {name} = {value}")
    try:
        server = role == "quire_server"
        attempt = Pool.open(database.server_url) if server else migrate(database.owner_url)
        with pytest.raises(DatabaseUnfit, match=rf"{name} is {value}, but must be .* RESET {name}"):
            await attempt
    finally:
        await execute(database.superuser_url, f"{scope} RESET ALL")


@pytest.mark.parametrize("table", [TABLE, "heads", "orgs", "key_checks"])
async def test_a_policy_that_hides_rows_is_an_error(database: Database, table: str) -> None:
    await execute(database.owner_url, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    pool = await Pool.open(database.server_url, size=1)
    try:
        with pytest.raises(DatabaseUnavailable, match=f'row-level security policy .* "{table}"'):
            await pool.fetch(f"SELECT FROM {table}")
    finally:
        await pool.close()


@pytest.mark.parametrize("table", ["api_keys", "heads", "a month of entries", "subjects"])
async def test_a_table_that_a_crash_empties_is_refused(database: Database, table: str) -> None:
    if table.startswith("a month"):
        table = partition(2026, 1)
        moment = "2026-01-05T00:00:00Z"
        await execute(database.owner_url, f"SELECT quire_add_entries_month(timestamptz '{moment}')")
    await execute(database.owner_url, f"ALTER TABLE {table} SET UNLOGGED")
    with pytest.raises(DatabaseUnfit, match=rf"UNLOGGED: .*{table}.*SET LOGGED"):
        await migrate(database.owner_url)
    await execute(database.owner_url, f"ALTER TABLE {table} SET LOGGED")
    await execute(database.owner_url, "CREATE SCHEMA theirs CREATE UNLOGGED TABLE cache (x int)")
    assert await migrate(database.owner_url) == []


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
async def test_a_database_that_loses_commits_is_refused(own_cluster: OwnCluster, name: str) -> None:
    await execute(
        own_cluster.superuser_url, f"ALTER SYSTEM SET {name} = off", "SELECT pg_reload_conf()"
    )
    advice = rf"{name} is off, but must be on: .* Set {name} = on in postgresql.conf"
    await eventually_off(own_cluster, name)
    for attempt in (
        migrate(own_cluster.owner_url),
        Pool.open(own_cluster.server_url),
        connect(own_cluster.server_url),
    ):
        with pytest.raises(DatabaseUnfit, match=advice):
            await attempt


async def eventually_off(cluster: OwnCluster, name: str) -> None:
    """Wait for a reload: new connections have it once the postmaster has read the file."""
    while True:
        connection = await asyncpg.connect(cluster.superuser_url)
        try:
            if await connection.fetchval(f"SHOW {name}") == "off":
                return
        finally:
            await connection.close()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_another_encoding_is_refused(postgres_cluster: Cluster, encoding: str) -> None:
    database = postgres_cluster.named(f"t_{encoding.lower()}")
    await execute(
        postgres_cluster.superuser_url,
        f"CREATE DATABASE {database.name} TEMPLATE template0 OWNER quire_owner "
        f"ENCODING '{encoding}' LOCALE 'C'",
    )
    try:
        with pytest.raises(
            DatabaseUnfit, match=f"server_encoding is {encoding}, but must be UTF8.*template0"
        ):
            await migrate(database.owner_url)
    finally:
        postgres_cluster.drop(database)


async def test_pages_of_orgs_are_in_byte_order_in_any_locale(database: Database) -> None:
    connection = await connect(database.server_url)
    try:
        query = (
            "SELECT collname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation "
            "WHERE attrelid = 'orgs'::regclass AND attname = 'slug'"
        )
        assert await connection.fetchval(query) == "C"
    finally:
        await connection.close()
