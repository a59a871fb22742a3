"""The client commands as processes against a running server; each test uses an org of its own."""

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cli.commands import call, run
from tests.cli.terminal import Session, on_terminal
from tests.support.blocks import flip
from tests.support.serving import SIGNING_KEY, Server
from tests.support.tampering import change, tamper

WEBHOOKS = Path(__file__).parents[1] / "data" / "octokit" / "webhooks.jsonl.gz"


class Org:
    """An org of a test, and `quire` with the platform key."""

    def __init__(self, server: Server) -> None:
        self.slug = f"cli-{uuid4().hex[:12]}"
        self.settings = {"QUIRE_URL": server.url, "QUIRE_API_KEY": server.platform_key}

    def quire(self, *arguments: str, stdin: bytes = b"", expect: int = 0) -> str:
        done = call(*arguments, settings=self.settings, stdin=stdin)
        assert done.returncode == expect, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done.stdout.decode()

    def said(self, *arguments: str, stdin: bytes = b"", expect: int = 0) -> str:
        """Run a command; returns its standard error."""
        done = call(*arguments, settings=self.settings, stdin=stdin)
        assert done.returncode == expect, done.stderr.decode()
        return done.stderr.decode()

    def json(self, *arguments: str, stdin: bytes = b"", expect: int = 0) -> Any:
        return json.loads(self.quire(*arguments, "--json", stdin=stdin, expect=expect))

    def lines(self, *arguments: str) -> list[Any]:
        return [json.loads(line) for line in self.quire(*arguments, "--json").splitlines()]

    def append(self, *events: dict[str, object]) -> Any:
        return self.json("append", self.slug, stdin=ndjson(*events))

    def terminal(self, *arguments: str, **settings: str) -> Session:
        return on_terminal(*arguments, settings={**self.settings, **settings})

    def erase(self, subject: str, *, typed: str) -> Session:
        """Run the erase command on a terminal, and answer its question with ``typed``."""
        command = ("subjects", "erase", self.slug, subject)
        return on_terminal(*command, settings=self.settings, prompt="[y/N]", typed=typed)


def ndjson(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def event(n: int, **fields: object) -> dict[str, object]:
    return {
        "event_type": "cli.test",
        "actor": f"actor-{n % 3}",
        "action": "count",
        "n": n,
        **fields,
    }


@pytest.fixture
def org(shared_server: Server) -> Org:
    made = Org(shared_server)
    made.quire("orgs", "create", made.slug, "--name", "Command line")
    return made


def test_an_org_is_created_shown_listed_and_renamed(org: Org) -> None:
    shown = org.json("orgs", "show", org.slug)
    assert (shown["name"], shown["privacy"], shown["frozen"]) == ("Command line", "sealed", None)
    org.quire("orgs", "rename", org.slug, "Other name")
    assert [o["name"] for o in org.lines("orgs", "list") if o["slug"] == org.slug] == ["Other name"]
    assert "Other name" in org.quire("orgs", "show", org.slug)
    assert org.slug in org.quire("orgs", "list")


def test_an_org_that_exists_is_a_conflict(org: Org) -> None:
    assert org.said("orgs", "create", org.slug, expect=2).startswith("Error: ")


def test_an_org_that_does_not_exist(org: Org) -> None:
    (line,) = org.said("entries", "list", "no-such-org", expect=2).splitlines()
    assert line.startswith("Error: ")
    assert line.endswith("(404)")


def test_an_api_key_works_until_it_is_revoked(org: Org, tmp_path: Path) -> None:
    key = org.quire("keys", "create", org.slug, "--name", "ci", "--role", "member").strip()
    assert key.startswith("quire_live_")
    file = tmp_path / "key"
    file.write_text(key)
    arguments = ("append", org.slug, "--api-key-file", str(file))
    org.quire(*arguments, stdin=ndjson(event(0)))
    (found,) = [k for k in org.lines("keys", "list", org.slug) if k["name"] == "ci"]
    assert (found["role"], found["revoked_at"]) == ("member", None)
    org.quire("keys", "revoke", org.slug, found["id"])
    assert "(401)" in org.said(*arguments, stdin=ndjson(event(1)), expect=2)
    assert found["id"] in org.quire("keys", "list", org.slug)


def test_append_reports_count_seq_and_head(org: Org) -> None:
    result = org.append(*(event(n) for n in range(2_500)))
    assert (result["appended"], result["first_seq"], result["last_seq"]) == (2_500, 0, 2_499)
    assert result["head"]["seq"] == 2_499
    assert org.json("orgs", "show", org.slug)["head"]["entry_hash"] == result["head"]["entry_hash"]
    told = org.quire("append", org.slug, stdin=ndjson(event(2_500)))
    assert f"Appended 1 entry to {org.slug}, the last as seq 2500." in told
    head = org.json("orgs", "show", org.slug)["head"]
    assert f"Head: seq 2500, {head['entry_hash']}" in told


def test_an_empty_input_is_no_error(org: Org) -> None:
    assert org.append()["appended"] == 0


def test_real_payloads_come_back_byte_for_byte(org: Org, tmp_path: Path) -> None:
    lines = gzip.decompress(WEBHOOKS.read_bytes()).splitlines()[:40]
    file = tmp_path / "webhooks.ndjson"
    file.write_bytes(b"\n".join(lines))
    assert org.json("append", org.slug, str(file))["appended"] == len(lines)
    found = org.lines("entries", "list", org.slug, "--order", "asc")
    assert len(found) == len(lines)
    for line, entry in zip(lines[:3], found[:3], strict=True):
        sent = run("entries", "payload", org.slug, entry["record_id"], settings=org.settings)
        assert sent.stdout == line.strip()


def test_a_bad_line_stops_and_what_precedes_it_is_appended(org: Org) -> None:
    refused = b'{"event_type": 17}\n'
    stdin = ndjson(event(0), event(1)) + refused + ndjson(event(2)) + b"nope\n" + ndjson(event(3))
    stopped = org.json("append", org.slug, stdin=stdin, expect=1)
    assert (stopped["appended"], stopped["rejected_count"], stopped["last_line"]) == (2, 1, 3)
    assert stopped["rejected"][0]["line"] == 3
    assert "event_type" in stopped["rejected"][0]["reason"]


def test_with_keep_going_only_bad_lines_are_left_out(org: Org) -> None:
    refused = b'{"event_type": 17}\n'
    stdin = ndjson(event(0)) + refused + ndjson(event(1)) + b"nope\n" + refused + ndjson(event(2))
    done = org.json("append", org.slug, "--keep-going", stdin=stdin, expect=1)
    assert (done["appended"], done["rejected_count"]) == (3, 3)
    assert [bad["line"] for bad in done["rejected"]] == [2, 4, 5]
    found = org.lines("entries", "list", org.slug, "--order", "asc")
    assert [entry["payload"]["n"] for entry in found] == [0, 1, 2]
    said = org.said("append", org.slug, "--keep-going", stdin=stdin, expect=1)
    assert "line 4: " in said
    assert "3 lines skipped; all others are appended." in said


def test_an_idempotency_prefix_makes_repeating_safe(org: Org) -> None:
    events = [event(n) for n in range(1_500)]
    bad = b'{"event_type": 17}\n'
    stdin = ndjson(*events[:700]) + bad + ndjson(*events[700:])
    arguments = ("append", org.slug, "--keep-going", "--idempotency-prefix", "import-1")
    first = org.json(*arguments, stdin=stdin, expect=1)
    again = org.json(*arguments, stdin=stdin, expect=1)
    assert first["appended"] == again["appended"] == 1_500
    assert again["last_seq"] == first["last_seq"]
    assert org.json("orgs", "show", org.slug)["head"]["seq"] == 1_499
    changed = ndjson({**events[0], "n": -1}, *events[1:700]) + bad + ndjson(*events[700:])
    assert "(422)" in org.said(*arguments, stdin=changed, expect=2)
    assert org.json("orgs", "show", org.slug)["head"]["seq"] == 1_499


FILTERS: list[tuple[tuple[str, ...], Callable[[dict[str, Any]], bool]]] = [
    (("--event-type", "cli.other"), lambda e: e["event_type"] == "cli.other"),
    (("--actor", "actor-1"), lambda e: e["actor"] == "actor-1"),
    (("--subject", "person-2"), lambda e: e["subject"] == "person-2"),
    (("--action", "count"), lambda e: e["action"] == "count"),
    (("--outcome", "failure"), lambda e: e["outcome"] == "failure"),
    (("--data-classification", "secret"), lambda e: e["data_classification"] == "secret"),
    (("--since", "2020-01-01"), lambda e: True),
    (("--until", "2020-01-01T00:00:00+02:00"), lambda e: False),
    (
        ("--actor", "actor-1", "--outcome", "failure"),
        lambda e: e["actor"] == "actor-1" and e["outcome"] == "failure",
    ),
]


def test_filters(org: Org) -> None:
    org.append(
        *(
            event(
                n,
                event_type="cli.other" if n % 5 == 0 else "cli.test",
                subject=f"person-{n % 4}",
                outcome="failure" if n % 2 else "success",
                data_classification="secret" if n % 7 == 0 else "public",
            )
            for n in range(40)
        )
    )
    everything = org.lines("entries", "list", org.slug)
    assert [entry["seq"] for entry in everything] == list(range(39, -1, -1))
    for filters, matches in FILTERS:
        found = org.lines("entries", "list", org.slug, *filters)
        assert found == [entry for entry in everything if matches(entry)], filters


def test_limit_and_all(org: Org) -> None:
    org.append(*(event(n) for n in range(1_200)))
    assert len(org.lines("entries", "list", org.slug)) == 100
    assert len(org.lines("entries", "list", org.slug, "--limit", "1100")) == 1_100
    ascending = org.lines("entries", "list", org.slug, "--all", "--order", "asc")
    assert [entry["seq"] for entry in ascending] == list(range(1_200))
    said = org.said("entries", "list", org.slug, "--limit", "2")
    assert "There are more than 2" in said
    assert org.said("entries", "list", org.slug, "--actor", "nobody") == "No entries.\n"


def test_one_entry(org: Org) -> None:
    org.append(event(0, subject="person-0"))
    (listed,) = org.lines("entries", "list", org.slug)
    record_id = listed["record_id"]
    assert org.json("entries", "show", org.slug, record_id) == listed
    shown = org.quire("entries", "show", org.slug, record_id)
    assert listed["entry_hash"] in shown
    assert '"n": 0' in shown
    verdict = org.json("verify-entry", record_id)
    assert (verdict["verdict"], verdict["valid"]) == ("verified", True)
    assert (verdict["unsigned_entries"], verdict["checks"]["included"]) == (1, "not_checked")
    table = org.quire("verify-entry", record_id)
    assert f"{record_id}: VERIFIED" in table
    assert "Written at" in table


def test_a_record_that_does_not_exist_could_not_be_verified(org: Org) -> None:
    assert "(404)" in org.said("verify-entry", "rec_" + "0" * 32, expect=2)


def test_a_trail_is_verified(org: Org) -> None:
    org.append(*(event(n) for n in range(50)))
    verdict = org.json("verify", org.slug)
    assert (verdict["valid"], verdict["verified_entries"], verdict["errors"]) == (True, 50, [])
    part = org.json("verify", org.slug, "--from", "10", "--to", "19")
    assert (part["valid"], part["first_seq"], part["last_seq"]) == (True, 10, 19)
    table = org.quire("verify", org.slug)
    assert f"{org.slug}: VERIFIED" in table
    assert "50 entries, not in a checkpoint yet" in table
    assert "Faults" not in table
    assert "pq_signature" in table


def test_a_trail_without_entries_is_incomplete(org: Org) -> None:
    verdict = org.json("verify", org.slug, expect=3)
    assert (verdict["verdict"], verdict["valid"]) == ("incomplete", False)
    assert verdict["reasons"]["hashes"] == "no entry was read"
    table = org.quire("verify", org.slug, expect=3)
    assert f"{org.slug}: INCOMPLETE" in table
    assert "none: the trail is empty" in table
    assert "-1" not in table.replace(org.slug, "")


def test_a_range_beyond_the_trail_is_no_verdict(org: Org) -> None:
    org.append(*(event(n) for n in range(5)))
    for ends in (["--from", "5"], ["--to", "5"], ["--from", "1000", "--to", "2000"]):
        assert "ends at 4" in org.said("verify", org.slug, *ends, expect=2)


def test_a_subject_is_erased_and_the_trail_stays_valid(org: Org) -> None:
    org.append(event(0, subject="bob"), event(1, subject="eve"))
    before = {e["seq"]: e for e in org.lines("entries", "list", org.slug)}
    assert org.json("subjects", "erase", org.slug, "bob", "--yes")["erased"] is True
    after = {e["seq"]: e for e in org.lines("entries", "list", org.slug)}
    assert (after[0]["erased"], after[0]["payload"]) == (True, None)
    assert after[1] == before[1]
    assert "(erased)" in org.quire("entries", "list", org.slug)
    assert "(erased)" in org.quire("entries", "show", org.slug, after[0]["record_id"])
    assert org.json("verify", org.slug)["valid"] is True
    assert "(404)" in org.said("subjects", "erase", org.slug, "bob", "--yes", expect=2)


def test_an_erasure_asks_first(org: Org) -> None:
    org.append(event(0, subject="bob"))
    refused = org.erase("bob", typed="n\n")
    assert refused.exit_code == 1
    assert "Nothing was erased." in refused.text
    left = org.erase("bob", typed="\x03")
    assert left.exit_code == 130
    ended = org.erase("bob", typed="\x04")
    assert ended.exit_code == 2
    assert "No answer, so nothing was done." in ended.text
    (entry,) = org.lines("entries", "list", org.slug)
    assert entry["erased"] is False
    confirmed = org.erase("bob", typed="y\n")
    assert confirmed.exit_code == 0
    assert "bob is erased" in confirmed.text


def test_a_plain_org_cannot_erase(org: Org) -> None:
    plain = f"{org.slug}-plain"
    org.quire("orgs", "create", plain, "--privacy", "plain")
    assert "(409)" in org.said("subjects", "erase", plain, "bob", "--yes", expect=2)


def test_tables_and_bars_fit_a_terminal_of_80_columns(org: Org, tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(
        ndjson(*(event(n, actor="ada.lovelace@analytical-engines.example") for n in range(2_000)))
    )
    appended = org.terminal("append", org.slug, str(file))
    assert "2,000 appended" in appended.text
    verified = org.terminal("verify", org.slug)
    assert "Verifying" in verified.text
    listed = org.terminal("entries", "list", org.slug, "--limit", "3")
    assert listed.text.count("rec_") == 3
    shown = org.terminal("orgs", "show", org.slug)
    for session in (appended, verified, listed, shown):
        assert session.exit_code == 0
        drawn = session.text.replace("\r", "\n").splitlines()
        assert max(len(line) for line in drawn) <= 80


def test_no_color(org: Org) -> None:
    org.append(event(0))
    session = org.terminal("verify", org.slug, NO_COLOR="1")
    assert "\x1b[3" not in session.raw
    assert "\x1b" not in org.quire("verify", org.slug)


def test_a_fault_is_listed_and_the_exit_code_is_1(shared_server: Server, org: Org) -> None:
    org.append(*(event(n) for n in range(20)))
    tamper(shared_server.database, org.slug, change(flip, 7, "signature", 0))
    verdict = org.json("verify", org.slug, expect=1)
    assert (verdict["verdict"], verdict["valid"]) == ("refuted", False)
    assert {fault["seq"] for fault in verdict["errors"]} == {7}
    table = org.quire("verify", org.slug, expect=1)
    assert f"{org.slug}: REFUTED" in table
    assert verdict["errors"][0]["kind"] in table
    assert verdict["errors"][0]["reason"] in table
    assert org.json("verify", org.slug, "--from", "8")["valid"] is True
    (entry,) = [e for e in org.lines("entries", "list", org.slug) if e["seq"] == 7]
    single = org.json("verify-entry", entry["record_id"], expect=1)
    assert single["checks"]["signature_valid"] is False
    table = org.quire("verify-entry", entry["record_id"], expect=1)
    assert re.search(r"signature_valid +FALSE", table)
    assert f"{entry['record_id']}: REFUTED" in table


def test_a_frozen_org_says_why_and_is_thawed(shared_server: Server, org: Org) -> None:
    org.append(event(0), event(1))
    tamper(shared_server.database, org.slug, change(flip, 1, "signature", 0))
    said = org.said("append", org.slug, stdin=ndjson(event(2)), expect=2)
    assert "(423)" in said
    assert "No line is confirmed as appended." in said
    frozen = org.json("orgs", "show", org.slug)["frozen"]
    assert frozen["reason"] in org.quire("orgs", "show", org.slug)
    org.quire("orgs", "thaw", org.slug, "--reason", "seen and accepted: test")
    assert org.json("orgs", "show", org.slug)["frozen"] is None
    assert org.append(event(2))["appended"] == 1
    assert "seen and accepted: test" in org.quire("entries", "list", org.slug, "--json")


def test_a_running_server_takes_up_a_rotated_key(shared_server: Server, org: Org) -> None:
    org.append(event(0))
    settings = {
        "QUIRE_DATA_DIR": str(shared_server.settings.data_dir),
        "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
    }
    done = run("keys", "rotate-signing", "--json", settings=settings)
    new_key = json.loads(done.stdout)["active"]
    deadline = time.monotonic() + 20
    signed_by = ""
    while signed_by != new_key:
        assert time.monotonic() < deadline
        org.append(event(1))
        signed_by = org.lines("entries", "list", org.slug, "--limit", "1")[0]["key"]
    assert org.json("verify", org.slug)["valid"] is True
