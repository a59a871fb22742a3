"""Commands without an ORG argument use the org of the API key."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import Leaf, call, leaves, run
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees

LEAVES = {" ".join(leaf.path): leaf for leaf in leaves()}
OF_THIS_MACHINE = {"archive verify", "archive restore", "orgs adopt", "orgs accept-loss"}


class Own:
    """An org of a test, and `quire` with its own admin key."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.org, self.key = server.create_org()
        self.settings = {"QUIRE_URL": server.url, "QUIRE_API_KEY": self.key}

    def quire(self, *arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> str:
        done = call(*arguments, settings=self.settings, stdin=stdin, cwd=cwd)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def record(self) -> str:
        (line,) = self.quire("entries", "list", "--json", "--limit", "1").splitlines()
        return str(json.loads(line)["record_id"])


@pytest.fixture
def own(shared_server: Server) -> Own:
    made = Own(shared_server)
    appended = json.loads(made.quire("append", "--json", stdin=b'{"subject": "bob"}\n'))
    assert (appended["org"], appended["appended"]) == (made.org, 1)
    return made


def test_every_command_of_an_org_works_without_the_argument() -> None:
    asking = {
        words
        for words, leaf in LEAVES.items()
        if any(parameter.name in {"org", "orgs"} for parameter in leaf.command.params)
    }
    assert {words for words in asking if _requires_org(LEAVES[words])} == OF_THIS_MACHINE
    assert len(asking) > 15


def _requires_org(leaf: Leaf) -> bool:
    return any(p.name in {"org", "orgs"} and p.required for p in leaf.command.params)


def test_reading_and_verifying(own: Own) -> None:
    record = own.record()
    assert f"{own.org}: VERIFIED" in own.quire("verify")
    assert json.loads(own.quire("entries", "show", record, "--json"))["record_id"] == record
    assert own.quire("entries", "payload", record) == '{"subject": "bob"}'
    assert own.quire("entries", "payload", own.org, record) == '{"subject": "bob"}'
    assert own.org in own.quire("orgs", "show")


def test_administration(own: Own) -> None:
    assert "Other" in own.quire("orgs", "rename", "Other")
    assert "older than 30 days" in own.quire("orgs", "key-age", "--days", "30")
    assert "older than" not in own.quire("orgs", "key-age", "--days", "0")
    assert "no limit" in own.quire("orgs", "limits")
    assert "600 a minute" in own.quire(
        "orgs", "limits", "--key-append", "600", "--org-read", "9000"
    )
    changed = json.loads(own.quire("orgs", "limits", "--key-append", "0", "--json"))
    assert (changed["key"]["append_per_minute"], changed["org"]["read_per_minute"]) == (None, 9_000)
    made = json.loads(own.quire("keys", "create", "--name", "n", "--json"))
    assert made["id"] in own.quire("keys", "list")
    own.quire("keys", "revoke", made["id"])
    assert json.loads(own.quire("subjects", "erase", "bob", "--yes", "--json"))["subject"] == "bob"


def test_a_bundle_and_its_names(own: Own, tmp_path: Path) -> None:
    SignedTrees(own.server).sign()
    given = ("bundle", "create", "--from", "0", "--no-anchor")
    assert own.quire(*given, cwd=tmp_path).startswith(f"quire-{own.org}-")
    name = b"Ren\xe9.zip".decode("utf-8", "surrogateescape")
    done = run(*given, "--output", name, settings=own.settings, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"Ren\xe9.zip\n")
    assert (tmp_path / name).stat().st_size
    done = run(*given, "--output", f"2{name}", "--json", settings=own.settings, cwd=tmp_path)
    assert json.loads(done.stdout)["file"] == "2Ren\\udce9.zip"
    again = run(*given, "--output", name, settings=own.settings, cwd=tmp_path)
    assert (again.returncode, b"exists" in again.stderr) == (2, True)


def test_a_single_argument_of_append_is_the_org_or_the_file(own: Own, tmp_path: Path) -> None:
    for name in ("events.ndjson", "Events", "a_b"):
        (tmp_path / name).write_text("{}\n")
        said = own.quire("append", name, cwd=tmp_path)
        assert f"Appended 1 entry to {own.org}" in said
    assert f"to {own.org}" in own.quire("append", own.org, stdin=b"{}\n")
    assert f"to {own.org}" in own.quire("append", "-", stdin=b"{}\n")
    assert f"to {own.org}" in own.quire("append", own.org, "-", stdin=b"{}\n")
    assert f"to {own.org}" in own.quire("append", own.org, "Events", cwd=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("entries", "list"),
        ("append",),
        ("subjects", "erase", "bob", "--yes"),
        ("bundle", "create", "--from", "0"),
        ("archive", "status"),
        ("archive", "run"),
        ("keys", "create", "--name", "n"),
        ("orgs", "thaw", "--reason", "r"),
    ],
)
def test_the_platform_key_belongs_to_no_org(
    shared_server: Server, arguments: tuple[str, ...]
) -> None:
    settings = {"QUIRE_URL": shared_server.url, "QUIRE_API_KEY": shared_server.platform_key}
    done = call(*arguments, settings=settings, stdin=b"{}\n")
    assert done.returncode == 2
    assert b"belongs to no org" in done.stderr
    assert b"name the org" in done.stderr


def test_too_many_arguments(own: Own) -> None:
    done = call("verify", own.org, own.org, settings=own.settings)
    assert (done.returncode, b"extra argument" in done.stderr) == (2, True)
    missing = call("entries", "show", settings=own.settings)
    assert (missing.returncode, b"RECORD_ID" in missing.stderr) == (2, True)


@pytest.fixture(scope="module")
def read_only(shared_server: Server) -> Own:
    """An org that tests of this module only read."""
    return Own(shared_server)


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00Z",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00",
        "2026-01-31",
        "2026-01-31T12:00:00.123456789+02:00",
        "2026-01-31T12:00:00+0200",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:60z",
    ],
)
def test_times_are_those_of_the_api(read_only: Own, time: str) -> None:
    own = read_only
    path = f"/v1/orgs/{own.org}/entries"
    query = time.replace("+", "%2B").replace(" ", "%20")
    answer = own.server.request("GET", f"{path}?since={query}", key=own.key)
    assert answer.status == 200
    listed = own.quire("entries", "list", "--since", time, "--until", time, "--json").splitlines()
    assert listed == []


@pytest.mark.parametrize(
    "time",
    ["tomorrow", "", "2026-13-01", "2026-01-31T25:00:00Z", "1", "2026-W05", "２０２６-01-31"],
)
def test_times_that_the_api_refuses_are_refused(read_only: Own, time: str) -> None:
    own = read_only
    for command in (("entries", "list"), ("bundle", "create")):
        done = call(*command, "--since", time, settings=own.settings)
        assert (done.returncode, b"2026-01-31T12:00:00Z" in done.stderr) == (2, True)


def test_a_bundle_takes_the_times_of_the_api(own: Own, tmp_path: Path) -> None:
    SignedTrees(own.server).sign()
    own.quire("bundle", "create", "--since", "2026-01-31t12:00:00z", "--no-anchor", cwd=tmp_path)
