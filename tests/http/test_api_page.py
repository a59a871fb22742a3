"""docs/api.md against the code: routes, problems and examples."""

from __future__ import annotations

import re
from pathlib import Path

from server.http.api.append import EVENT
from server.http.api.description import NO_KEY
from server.http.problems import TYPE_BASE, problems
from tests.support.described import DOCUMENT, OPERATIONS
from tests.support.serving import Server

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ALWAYS = {"401", "403", "404", "429", "503"}
ALL_ROLES = {"Any valid key.", "Roles: admin, auditor, member, platform, viewer."}


def row(method: str, path: str) -> str:
    """The row of a route in the page's tables."""
    operation = OPERATIONS[method, path]
    described = operation.get("description", "no key needed")
    public = "; no key where the log is public" if described.endswith(NO_KEY) else ""
    described = described.removesuffix(NO_KEY)
    roles = "all" if described in ALL_ROLES else described.removeprefix("Roles: ").rstrip(".")
    roles += public
    answers = ", ".join(sorted(operation["responses"].keys() - ALWAYS))
    return f"| `{method} {path}` | {roles} | {answers} | {operation['summary']} |"


def test_the_route_tables_are_the_application_s() -> None:
    expected = {row(*route) for route in OPERATIONS}
    written = set(re.findall(r"^\| `[A-Z]+ /.*\|$", PAGE, re.MULTILINE))
    assert written == expected


def test_routes_are_listed_in_their_section() -> None:
    for part in PAGE.split("\n### ")[1:]:
        title = part.partition("\n")[0]
        for method, path in re.findall(r"^\| `([A-Z]+) (/\S*)` \|", part, re.MULTILINE):
            assert OPERATIONS[method, path]["tags"] == [title]
    assert [tag["name"] for tag in DOCUMENT["tags"]] == re.findall(
        r"^### (.+)$", PAGE, re.MULTILINE
    )


def test_the_problem_table_is_the_code_s() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    assert rows == [
        (kind.slug, str(kind.status), kind.title)
        for kind in sorted(problems().values(), key=lambda kind: (kind.status, kind.slug))
    ]
    assert TYPE_BASE in PAGE


def test_fields_the_page_names_are_those_answered(shared_server: Server) -> None:
    server = shared_server
    path = f"/v1/orgs/{server.org}/entries"
    single = server.request("POST", path, EVENT, key=server.admin_key).json()
    batch = server.request("POST", path, [EVENT], key=server.admin_key).json()
    minimal = server.request(
        "POST", path, [EVENT], key=server.admin_key, headers={"prefer": "return=minimal"}
    ).json()
    entry = server.request("GET", f"{path}/{single['record_id']}", key=server.admin_key).json()
    for answer in (single, batch, minimal, entry, batch["head"]):
        for name in answer:
            assert f"`{name}`" in PAGE, name
