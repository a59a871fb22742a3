"""What every connection of ours sets for itself, and what it refuses to work without.

A role, a database or postgresql.conf may have settings under which a right statement is slow,
fails, or is not durable. Each connection sets what our promises and our SQL rest on. What it can't
set itself (fsync, say) it checks, and it closes where that is not as it must be. Memory, costs,
logging and parallel workers are for the operator to set: they stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ledger.errors import DatabaseUnfit

if TYPE_CHECKING:
    from ledger.storage.database import Connection

# In this order: the timeouts first, so that none of them ends the statement that sets the others.
TIMEOUTS: Final = {
    "statement_timeout": "0",  # each statement has its limit here, where it is run
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",  # pools, listeners and leaders sit idle for hours
}
_TRANSACTION_TIMEOUT_SINCE: Final = 17

FORMATS: Final = {
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    # COMMIT tells by a warning only that the wait for a synchronous standby was cut.
    "client_min_messages": "warning",
}
BEHAVIOUR: Final = {
    # pg_catalog comes first by itself, and nothing temporary stands before our tables.
    "search_path": "public, pg_temp",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    "exit_on_error": "off",
    "transform_null_equals": "off",
    "default_table_access_method": "heap",
    "default_tablespace": "",  # a partitioned table may not name the one of its database
}
PLANS: Final = {
    **dict.fromkeys(
        (
            "enable_bitmapscan",
            "enable_hashagg",
            "enable_hashjoin",
            "enable_indexonlyscan",
            "enable_indexscan",
            "enable_material",
            "enable_mergejoin",
            "enable_nestloop",
            "enable_partition_pruning",
            "enable_seqscan",
            "enable_sort",
        ),
        "on",
    ),
    "plan_cache_mode": "auto",
    "jit": "off",  # short statements only
}
SESSION: Final = {**TIMEOUTS, **FORMATS, **BEHAVIOUR, **PLANS}

# Stronger settings (remote_apply) stay. Weaker ones acknowledge what a crash can take away.
_DURABLE: Final = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"""


class RequiredSetting(NamedTuple):
    """A setting that must have this value, why, and how an operator brings that about."""

    value: str
    why: str
    advice: str


_CONF: Final = "Set {name} = {value} in postgresql.conf (or by ALTER SYSTEM), reload PostgreSQL, and start again."
_RESET: Final = (
    "Find who sets it (SELECT * FROM pg_db_role_setting, postgresql.conf) and take it back: "
    "ALTER ROLE … RESET {name}, or ALTER DATABASE … RESET {name}."
)
DEMANDS: Final = {
    "server_encoding": RequiredSetting(
        "UTF8",
        "names and payloads are Unicode",
        "Create the database anew with ENCODING 'UTF8' TEMPLATE template0.",
    ),
    "fsync": RequiredSetting("on", "a crash could take entries that were acknowledged", _CONF),
    "full_page_writes": RequiredSetting("on", "a crash could tear pages of the trail", _CONF),
    "session_replication_role": RequiredSetting(
        "origin", "the triggers that keep the trail append-only would not run", _RESET
    ),
    "zero_damaged_pages": RequiredSetting(
        "off", "damaged pages would be emptied without a word", _RESET
    ),
    "ignore_checksum_failure": RequiredSetting(
        "off", "damaged pages would be read as whole", _RESET
    ),
}
_CHECKED: Final = (*DEMANDS, "synchronous_commit")
_READ: Final = "SELECT " + ", ".join(f"current_setting('{name}')" for name in _CHECKED)


async def prepare_session(connection: Connection) -> None:
    """Set what our statements rest on; raises DatabaseUnfit where the rest is not as it must be."""
    await connection.execute(statements({**timeouts(connection), **SESSION}) + _DURABLE)
    found = await connection.fetchrow(_READ)
    assert found is not None, "a SELECT without FROM has one row"
    _require(dict(zip(_CHECKED, found, strict=True)))


def timeouts(connection: Connection) -> dict[str, str]:
    """Every timeout that this version of PostgreSQL has, disarmed."""
    if connection.get_server_version().major < _TRANSACTION_TIMEOUT_SINCE:
        return TIMEOUTS
    return {"transaction_timeout": "0", **TIMEOUTS}


def statements(wanted: dict[str, str]) -> str:
    """SET statements in this order. No name of a function is looked up before the search path."""
    # A list of schemas is no string: quoted, it would be the name of one schema.
    return "".join(
        f"SET {name} = {value};" if name == "search_path" else f"SET {name} = '{value}';"
        for name, value in wanted.items()
    )


def _require(found: dict[str, str]) -> None:
    problems = [
        f"{name} is {found[name]}, but must be {demand.value}: {demand.why}. "
        + demand.advice.format(name=name, value=demand.value)
        for name, demand in DEMANDS.items()
        if found[name] != demand.value
    ]
    if found["synchronous_commit"] not in {"on", "remote_apply"}:
        problems.append("synchronous_commit can't be set to on for this connection.")
    if problems:
        raise DatabaseUnfit("this PostgreSQL can't keep what Quire promises: " + " ".join(problems))
