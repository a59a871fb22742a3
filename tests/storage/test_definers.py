"""Every function that runs with its owner's rights: who may call it, its path, its bounds."""

from __future__ import annotations

import contextlib
from typing import Any

import asyncpg
import pytest

from tests.support.clusters import Database
from tests.support.signing import fetch

# The roles that may execute each function of the schema, beside its owner.
CALLERS = {
    "quire_create_entries_partition": {"quire_server"},
    "quire_create_idempotency_partition": {"quire_server"},
    "quire_probe_write": {"quire_server"},
    "quire_seal_partitions": {"quire_retention"},
    "quire_drop_idempotency_before": {"quire_retention"},
    "quire_drop_entries_partition": {"quire_retention"},
    "quire_add_entries_month": set(),
}
ROLES = ("quire_server", "quire_signer", "quire_retention", "quire_indexer", "nobody_else")
FUNCTIONS = """
SELECT p.proname, p.prosecdef, coalesce(p.proconfig, '{}'),
       p.proowner = (SELECT relowner FROM pg_class WHERE oid = 'entries'::regclass),
       ARRAY(SELECT r.rolname::text FROM pg_roles r
             WHERE r.rolname = ANY ($1) AND has_function_privilege(r.oid, p.oid, 'EXECUTE')),
       p.prorettype = 'trigger'::regtype
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname IN ('public', 'quire_signing', 'quire_retaining')"""
# Times that no caller may name, and the effects that the present must bound.
FAR = ("infinity", "-infinity", "10000-01-01Z", "1900-01-01Z", "2026-06-10Z BC", "2199-01-01Z")


async def functions(database: Database) -> list[Any]:
    return await fetch(database, FUNCTIONS, list(ROLES))


async def test_each_definer_has_its_callers_and_a_fixed_path(database: Database) -> None:
    found = {}
    for name, definer, config, owned, callers, _ in await functions(database):
        if definer:
            found[name] = set(callers)
            assert "search_path=pg_catalog, public, pg_temp" in config, name
            assert owned, name
    assert found == CALLERS


async def test_no_other_function_is_open_to_a_login(database: Database) -> None:
    """The helpers, too: an owner's function may call them with its rights."""
    for name, definer, _, owned, callers, is_trigger in await functions(database):
        if name.startswith("quire_") and not definer and not is_trigger:
            assert (owned, callers) == (True, []), name


@pytest.mark.parametrize("at", [*FAR, None])
@pytest.mark.parametrize(
    ("login", "call"),
    [
        ("server_url", "quire_create_entries_partition($1::text::timestamptz)"),
        ("server_url", "quire_create_idempotency_partition($1::text::timestamptz::date)"),
        ("retention_url", "quire_drop_entries_partition($1::text::timestamptz, 'x', 0, '[]')"),
        ("retention_url", "quire_seal_partitions($1::text::timestamptz)"),
        ("retention_url", "quire_drop_idempotency_before($1::text::timestamptz::date)"),
    ],
)
async def test_no_far_time_has_an_effect(
    database: Database, login: str, call: str, at: str | None
) -> None:
    """It is refused, or does no more than the present would."""
    tables = (
        "SELECT relname, (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid) FROM pg_class c "
        "ORDER BY 1, 2"
    )
    connection = await asyncpg.connect(getattr(database, login))
    try:
        async with connection.transaction():
            present = call.replace("$1::text::timestamptz", "now()")
            if "seal" in call or "idempotency_before" in call:
                await connection.execute(f"SELECT {present}")
        before = await fetch(database, tables)
        # QR001 is the refusal of a drop.
        with contextlib.suppress(
            asyncpg.DataError, asyncpg.RaiseError, asyncpg.UnknownPostgresError
        ):
            await connection.fetchval(f"SELECT {call}", at)
    finally:
        await connection.close()
    assert await fetch(database, tables) == before
