"""Route × role × own, foreign and unknown org × faulty keys, generated from the application."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import get, post

from server.access.rights import May
from server.app.application import create_app
from server.feature import Feature
from server.http.contract import NoRightStated, RouteContract, any_key, asks, needs_no_key
from server.http.parameters import OrgSlug
from tests.support.route_matrix import (
    Case,
    Matrix,
    cases,
    closed_without_a_valid_key,
    let_in_by_contract,
    others_look_like_none,
)
from tests.support.serving import Server, server_settings

CASES = cases()
KEYED = [case for case in CASES if not case.contract.open]


@pytest.fixture(scope="module")
def matrix(shared_server: Server) -> Matrix:
    return Matrix(shared_server)


def test_the_routes_are_many_and_most_need_a_key() -> None:
    assert len(KEYED) > len(CASES) / 2 > 20


@pytest.mark.parametrize("case", KEYED, ids=str)
def test_each_role_is_let_in_by_the_route_s_contract(matrix: Matrix, case: Case) -> None:
    let_in_by_contract(matrix, case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_faulty_key_opens_nothing(matrix: Matrix, case: Case) -> None:
    closed_without_a_valid_key(matrix, case)


@pytest.mark.parametrize("case", [case for case in KEYED if case.of_org], ids=str)
def test_another_s_org_is_answered_like_a_missing_one(matrix: Matrix, case: Case) -> None:
    others_look_like_none(matrix, case)


def test_the_key_is_checked_before_the_parameters(matrix: Matrix) -> None:
    path = f"/v1/orgs/{matrix.org}/entries?limit=none"
    assert matrix.server.request("GET", path).status == 401
    assert matrix.server.request("GET", path, key=matrix.own["viewer"]).status == 400  # type: ignore[index]


@get("/silent")
async def silent() -> None:
    """A route without a right."""


@get("/v1/orgs/{org:str}/lax", opt=any_key())
async def lax(org: OrgSlug) -> None:
    """A route of an org that requires no right in the org."""


@get("/v1/orgs/{slug:str}/misnamed", opt=asks(May.READ))
async def misnamed(slug: OrgSlug) -> None:
    """A route of an org under another name, which the guard would let every reader into."""


@get("/both", opt={"contract": RouteContract(right=May.READ, open=True)})
async def both() -> None:
    """A route with a contradictory contract."""


@post("/unclear", opt=asks(May.READ))
async def unclear() -> None:
    """A route that does not say whether it writes."""


@get("/writing", opt=asks(May.READ, writes=True))
async def writing() -> None:
    """A GET route that writes."""


@get("/odd", opt={"contract": "read"})
async def odd() -> None:
    """A route with an object of another type as its contract."""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("silent", "GET /silent states no right"),
        ("lax", "GET /v1/orgs/{org}/lax has an org in its path"),
        ("misnamed", "GET /v1/orgs/{slug}/misnamed names its org {slug}: call this part of the"),
        ("both", "GET /both asks for a right and needs no key"),
        ("odd", "GET /odd states no right"),
        ("unclear", "POST /unclear does not say whether it writes"),
        ("writing", "GET /writing writes"),
    ],
)
def test_an_application_with_a_route_that_states_no_right_does_not_start(
    name: str, said: str, tmp_path: Any
) -> None:
    feature = Feature(name="careless", routes=(f"{__name__}:{name}",))

    async def nothing() -> Any:
        raise AssertionError("it is refused before anything is opened")

    with pytest.raises(NoRightStated, match=said.replace("{", r"\{")):
        create_app(server_settings(tmp_path), nothing, (feature,))


def test_contracts_are_options_of_a_route() -> None:
    for options in (asks(May.READ), any_key(), needs_no_key()):
        assert isinstance(options["contract"], RouteContract)
