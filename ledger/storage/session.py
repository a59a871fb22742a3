"""The settings that every connection of Quire sets for itself, and those that it requires.

A role, a database or postgresql.conf may have settings under which a correct statement is slow,
fails, or is not durable. Each connection sets the values on which Quire's guarantees and its SQL
depend. Settings that a session can't change, such as fsync, are checked, and the connection is
refused if one has a wrong value. Memory, costs, logging and parallel workers are left to the
operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ledger.errors import DatabaseUnfit

if TYPE_CHECKING:
    from ledger.storage.database import Connection

# The timeouts come first, so that none of them ends the statement that sets the other settings.
TIMEOUTS: Final = {
    "statement_timeout": "0",  # each statement gets its timeout from the code that runs it
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",  # pools, listeners and leaders are idle for hours
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
    # COMMIT reports only by a warning that the wait for a synchronous standby was cut short.
    "client_min_messages": "warning",
}
BEHAVIOUR: Final = {
    # pg_catalog comes first by default, and temporary tables come after Quire's tables.
    "search_path": "public, pg_temp",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # A policy that hides rows is an error: a trail must not look shorter than it is.
    "row_security": "off",
    "exit_on_error": "off",
    "transform_null_equals": "off",
    "default_table_access_method": "heap",
    "default_tablespace": "",  # a partitioned table must not name its database's default
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

# Stronger settings (remote_apply) stay. Weaker ones acknowledge commits that a crash can lose.
_DURABLE: Final = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"""


class RequiredSetting(NamedTuple):
    """A setting, its required value, the reason, and how an operator sets it."""

    value: str
    why: str
    advice: str


_CONF: Final = "Set {name} = {value} in postgresql.conf (or by ALTER SYSTEM), reload PostgreSQL, and start again."
_RESET: Final = (
    "Find where it is set (SELECT * FROM pg_db_role_setting, postgresql.conf) and reset it: "
    "ALTER ROLE … RESET {name}, or ALTER DATABASE … RESET {name}."
)
DEMANDS: Final = {
    "server_encoding": RequiredSetting(
        "UTF8",
        "names and payloads are Unicode",
        "Create the database again with ENCODING 'UTF8' TEMPLATE template0.",
    ),
    "fsync": RequiredSetting("on", "a crash could lose acknowledged entries", _CONF),
    "full_page_writes": RequiredSetting("on", "a crash could damage pages of the trail", _CONF),
    "session_replication_role": RequiredSetting(
        "origin", "the triggers that keep the trail append-only would not run", _RESET
    ),
    "zero_damaged_pages": RequiredSetting("off", "damaged pages would be emptied silently", _RESET),
    "ignore_checksum_failure": RequiredSetting(
        "off", "damaged pages would be read as if they were valid", _RESET
    ),
}
_CHECKED: Final = (*DEMANDS, "synchronous_commit")
_READ: Final = "SELECT " + ", ".join(f"current_setting('{name}')" for name in _CHECKED)


async def prepare_session(connection: Connection) -> None:
    """Apply the session settings. Raises DatabaseUnfit if a required setting has a wrong value."""
    await connection.execute(statements({**timeouts(connection), **SESSION}) + _DURABLE)
    values = await connection.fetchrow(_READ)
    assert values is not None, "a SELECT without FROM has one row"
    _require(dict(zip(_CHECKED, values, strict=True)))


def timeouts(connection: Connection) -> dict[str, str]:
    """Return all timeouts of this version of PostgreSQL, switched off."""
    if connection.get_server_version().major < _TRANSACTION_TIMEOUT_SINCE:
        return TIMEOUTS
    return {"transaction_timeout": "0", **TIMEOUTS}


def statements(settings: dict[str, str]) -> str:
    """Return SET statements in this order; they call no function, as the search path is not set."""
    # A list of schemas must not be quoted: quoted, it would be the name of one schema.
    return "".join(
        f"SET {name} = {value};" if name == "search_path" else f"SET {name} = '{value}';"
        for name, value in settings.items()
    )


def _require(values: dict[str, str]) -> None:
    problems = [
        f"{name} is {values[name]}, but must be {demand.value}: {demand.why}. "
        + demand.advice.format(name=name, value=demand.value)
        for name, demand in DEMANDS.items()
        if values[name] != demand.value
    ]
    if values["synchronous_commit"] not in {"on", "remote_apply"}:
        problems.append("synchronous_commit can't be set to on for this connection.")
    if problems:
        raise DatabaseUnfit("this PostgreSQL breaks Quire's guarantees: " + " ".join(problems))
