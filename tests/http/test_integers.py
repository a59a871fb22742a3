"""An integer parameter of a query is decimal digits, on every route that has one."""

from __future__ import annotations

import pytest

from tests.support.described import OPERATIONS
from tests.support.serving import Server

INTEGERS = [
    (path, parameter["name"])
    for (method, path), operation in OPERATIONS.items()
    if method == "GET"
    for parameter in operation.get("parameters", [])
    if parameter["in"] == "query" and parameter["schema"].get("type") == "integer"
]


def test_the_integers_are_those_of_the_api() -> None:
    assert {name for _, name in INTEGERS} == {"before", "cursor", "from", "limit", "size", "to"}


@pytest.mark.parametrize(("path", "name"), INTEGERS)
@pytest.mark.parametrize("text", ["1e0", "1.0", "10e-1", "%2B1", "1_0", "0x1", ""])
def test_what_is_not_decimal_digits_is_no_integer(
    shared_server: Server, path: str, name: str, text: str
) -> None:
    server = shared_server
    place = path.format(org=server.org, size="1", record=f"rec_{'0' * 32}")
    answer = server.request("GET", f"{place}?{name}={text}", key=server.platform_key)
    assert answer.status == 400
    assert answer.json()["detail"] == f"{name} must be a whole number in decimal digits"


def test_digits_are_an_integer(shared_server: Server) -> None:
    path = f"/v1/orgs/{shared_server.org}/entries?limit=1"
    assert shared_server.request("GET", path, key=shared_server.admin_key).status == 200
