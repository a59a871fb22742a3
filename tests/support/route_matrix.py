"""Every route of an application with every kind of caller, generated from the routes' contracts.

The expected answer of a route is computed from its contract alone, so that the routes of a new
domain are tested without a line written for them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from litestar.routes import HTTPRoute

from server.access.rights import Role
from server.app.features import FEATURES
from server.feature import Feature
from server.http.contract import CONTRACT, RouteContract
from tests.support.routes import an_application
from tests.support.serving import PeerAnswer, Server

ROLES: Final = tuple(Role)
ORG_ROLES: Final = tuple(role for role in Role if role is not Role.PLATFORM)
NO_KEYS: Final = ("none", "malformed", "unknown", "wrong secret", "revoked")
"""Keys without any right, by their fault."""
REFUSED: Final = frozenset({401, 403})


class Case(NamedTuple):
    """One route of an application, and its contract."""

    method: str
    path: str
    contract: RouteContract

    @property
    def of_org(self) -> bool:
        """Whether the path names an org."""
        return "{org}" in self.path

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def cases(features: Sequence[Feature] = FEATURES) -> list[Case]:
    """Every route; HEAD is a route of its own beside each GET."""
    found = []
    for route in an_application(features).routes:
        assert isinstance(route, HTTPRoute)
        path = re.sub(r":\w+}", "}", route.path_format)
        for handler in route.route_handlers:
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                case = Case(str(method), path, handler.opt[CONTRACT])
                found.append(case)
                if case.method == "GET":
                    found.append(case._replace(method="HEAD"))
    return sorted(found, key=str)


class Matrix:
    """A server with two orgs, a key of each role, and a key with each fault."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.org, admin = server.create_org()
        self.foreign, foreign_admin = server.create_org()
        self.own = {Role.ADMIN: admin, Role.PLATFORM: server.platform_key}
        self.of_others = {Role.ADMIN: foreign_admin}
        for role in (Role.MEMBER, Role.AUDITOR, Role.VIEWER):
            self.own[role] = server.create_key(self.org, role)
            self.of_others[role] = server.create_key(self.foreign, role)
        self.faulty = self._faulty(admin)
        made = self.call(Case("POST", "/v1/orgs/{org}/entries", RouteContract()), admin, body={})
        self._record = made.json()["record_id"]

    def _faulty(self, admin: str) -> dict[str, str | None]:
        revoked = self.server.create_key(self.org, "admin")
        key_id = revoked.split("_")[2]
        gone = self.server.request("DELETE", f"/v1/orgs/{self.org}/keys/{key_id}", key=admin)
        assert gone.status == 204, gone.body
        return {
            "none": None,
            "malformed": "quire_live_but_no_key",
            "unknown": f"quire_live_{secrets.token_hex(8)}_{secrets.token_hex(24)}",
            "wrong secret": f"{admin.rpartition('_')[0]}_{secrets.token_hex(24)}",
            "revoked": revoked,
        }

    def call(self, case: Case, key: str | None, *, org: str = "", body: Any = None) -> PeerAnswer:
        """Call the route with its example's body, by default in the keys' own org."""
        things = {"org": org or self.org, "record": getattr(self, "_record", ""), "subject": "x"}
        path = re.sub(r"{(\w+)}", lambda name: things.get(name[1], "0" * 16), case.path)
        body = case.contract.example if body is None else body
        return self.server.request(
            case.method, path, body if case.method != "HEAD" else None, key=key
        )

    def answers(self, case: Case) -> dict[Role, int]:
        """The status that the route answers to the own key of each role."""
        return {role: self.call(case, self.own[role]).status for role in ROLES}


def roles_in_contract(contract: RouteContract) -> set[Role]:
    """The roles that a route lets in by its contract."""
    return set(ROLES) if contract.right is None else set(contract.right.roles)


def let_in_by_contract(matrix: Matrix, case: Case) -> None:
    """Check that the route lets in exactly the own org's roles with its right; others get 403."""
    promised = roles_in_contract(case.contract)
    answers = matrix.answers(case)
    assert {role for role, status in answers.items() if status not in REFUSED} == promised
    assert {role for role, status in answers.items() if status == 403} == set(ROLES) - promised


def closed_without_a_valid_key(matrix: Matrix, case: Case) -> None:
    """Check that faulty keys get 401, except on an open route, which lets in any key and none."""
    for fault, key in matrix.faulty.items():
        answer = matrix.call(case, key)
        if case.contract.open and not case.contract.operators:
            assert answer.status not in REFUSED, fault
        else:
            assert answer.status == 401, (fault, answer.body)
            assert answer.headers["www-authenticate"] == "Bearer", fault


def others_look_like_none(matrix: Matrix, case: Case) -> None:
    """Check that another's org is answered exactly like one that does not exist, for every role."""
    status = 403 if case.contract.others_forbidden else 404
    nothing = f"no-{secrets.token_hex(4)}"
    for role in ORG_ROLES:
        key = matrix.of_others[role]
        seen = matrix.call(case, key)
        unknown = matrix.call(case, key, org=nothing)
        assert seen.status == unknown.status == status, (role, seen.body)
        assert seen.body.replace(matrix.org.encode(), nothing.encode()) == unknown.body
        assert seen.headers.keys() == unknown.headers.keys()
