"""The server's own entries in words, for `quire entries list --own`."""

from collections.abc import Callable
from typing import Any

import msgspec

from ledger.client import Entry
from server.cli.base import output
from server.cli.base.text import count, moment

PREFIX = "quire."
OWN_COLUMNS = [
    output.TableColumn("Seq", keep=True, justify="right"),
    output.TableColumn("Written at", keep=True),
    output.TableColumn("What"),
]
_SHOWN = 3
"""Parts of a long entry that are shown; the others are counted."""


def is_own(entry: Entry) -> bool:
    """Return whether the server itself wrote an entry."""
    return (entry.event_type or "").startswith(PREFIX)


def own_row(entry: Entry) -> tuple[str, ...]:
    """Return a row of a table with :data:`OWN_COLUMNS`."""
    return str(entry.seq), moment(entry.anchored_at), in_words(entry)


def in_words(entry: Entry) -> str:
    """Return what an entry of the server tells, on one line."""
    kind = (entry.event_type or "").removeprefix(PREFIX)
    payload = _payload(entry)
    if payload is None:
        return f"{kind} (sealed: this API key is not allowed to open it)"
    try:
        return _WORDS.get(kind, _other)(payload).replace("\n", " ")
    except (KeyError, TypeError, AttributeError):  # of another version of the server
        return _other(payload)


def _payload(entry: Entry) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(bytes(entry.payload_raw), type=dict[str, Any] | None)
    except (msgspec.MsgspecError, ValueError):
        return None
    return found


def _other(payload: dict[str, Any]) -> str:
    """Say what any entry says: the kind, the actor, and its plain members."""
    kind = str(payload.get("event_type", "")).removeprefix(PREFIX).replace("_", " ")
    plain = [
        f"{name} {value}"
        for name, value in payload.items()
        if name not in ("event_type", "actor", "action") and isinstance(value, str | int)
    ]
    return f"{kind} by {payload.get('actor', '?')}" + (f": {', '.join(plain)}" if plain else "")


def _reads(payload: dict[str, Any]) -> str:
    parts = [
        f"{one['key']} {one['route']} {one['count']:,} times{_seqs(one)}"
        for one in payload["reads"]
    ]
    silent = payload["silent"]
    before = f" (after {silent['hours']} hours without reads)" if silent else ""
    return f"read in the hour from {payload['hour'][:16]}{before}: {_listed(parts)}"


def _refused(payload: dict[str, Any]) -> str:
    parts = [
        f"{one['source']} {one['count']:,} times ({one['reason']})" for one in payload["refused"]
    ]
    return f"refused {payload['count']:,} requests in the hour from {payload['hour'][:16]}: {_listed(parts)}"


def _opened(payload: dict[str, Any]) -> str:
    parts = [
        str(first) if first == last else f"{first} to {last}" for first, last in payload["runs"]
    ]
    return f"{payload['key']} opened {payload['count']:,} payloads: seq {_listed(parts)}"


def _verified(payload: dict[str, Any]) -> str:
    parts = [
        f"{one['key']} {one['scope']}{_seqs(one)} {one['verdict']}, "
        f"{one['fault_count']:,} faults, {one['count']:,} times"
        for one in payload["done"]
    ]
    return f"verified: {_listed(parts)}"


def _bundled(payload: dict[str, Any]) -> str:
    parts = [
        f"{one['key']} {one['entries']:,} entries{_seqs(one)}, {one['count']:,} times"
        for one in payload["bundles"]
    ]
    return f"made bundles: {_listed(parts)}"


def _started(payload: dict[str, Any]) -> str:
    parts = [
        f"{start['at'][:19]} (version {start['version']}, {count(start['processes'], 'process', 'processes')}"
        f"{_PREVIOUS[start['previous_stop']]}; {_changed(start)})"
        for start in payload["starts"]
    ]
    return f"server on {payload['host']} started: {_listed(parts)}"


def _changed(start: dict[str, Any]) -> str:
    if start["changed"] is None:
        return "no earlier start to compare with"
    parts = [_change(one) for one in start["changed"]]
    return f"changed {_listed(parts)}" if parts else "same settings"


def _change(one: dict[str, Any]) -> str:
    if one["secret"] and one["before"] == one["after"]:
        return f"{one['name']} (secret)"
    before, after = ("none" if one[name] is None else one[name] for name in ("before", "after"))
    return f"{one['name']} from {before} to {after}"


def _stopped(payload: dict[str, Any]) -> str:
    parts = [f"{one['host']} {one['at'][:19]} ({one['reason']})" for one in payload["stops"]]
    return f"server stopped: {_listed(parts)}"


def _sealed_events(payload: dict[str, Any]) -> str:
    parts = [f"{one['id']} {one['kind']} ({one['severity']})" for one in payload["events"]]
    return f"sealed {count(len(parts), 'security event')}: {_listed(parts)}"


def _seqs(one: dict[str, Any]) -> str:
    return "" if one["first_seq"] is None else f", seq {one['first_seq']} to {one['last_seq']}"


def _listed(parts: list[str]) -> str:
    more = f" and {len(parts) - _SHOWN:,} more" if len(parts) > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more


_PREVIOUS = {None: "", "orderly": "", "unknown": ", nobody knows how it stopped before"}
_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "read_summary": _reads,
    "auth_refused": _refused,
    "payload_opened": _opened,
    "verification_done": _verified,
    "bundle_created": _bundled,
    "server_started": _started,
    "server_stopped": _stopped,
    "security_events": _sealed_events,
}
