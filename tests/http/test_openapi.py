"""The API's description is complete, and the server behaves as it says."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import hypothesis
import msgspec
import pytest
import schemathesis
from litestar import Router, get, post
from litestar.params import QueryParameter
from msgspec import Meta, Struct
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.app.application import description
from server.feature import Feature
from server.http.api.description import NO_KEY, described_routes
from server.http.contract import needs_no_key
from tests.support.described import DOCUMENT, OPERATIONS, answer_of, flaws
from tests.support.rights import ROUTES
from tests.support.routes import an_application, routes
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees

NOT_DESCRIBED = {("GET", path) for path in ("/docs", "/openapi.json", "/static/{name}", "/verify")}
OF_HTTP = {"content-type", "content-length", "transfer-encoding", "connection", "date", "server"}
"""Headers of any answer, which say nothing of the API."""


def headers_are_described(_: Any, response: Any, case: Any) -> None:
    """Every header of an answer is described, and those that are always there are there."""
    operation = OPERATIONS[(case.operation.method.upper(), case.operation.path)]
    described = answer_of(operation, response.status_code).get("headers", {})
    sent = {name.lower() for name in response.headers}
    assert sent - OF_HTTP <= {name.lower() for name in described}
    assert sent >= {name.lower() for name, header in described.items() if header["required"]}


CONFORM = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    headers_are_described,
]

schema = schemathesis.openapi.from_dict(DOCUMENT)


@schemathesis.serializer("application/x-ndjson", "application/msgpack")
def as_it_is(_: Any, value: Any) -> bytes:
    """The bytes of a generated body that is not of a JSON type: text, bytes, or a value to encode."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return value if isinstance(value, bytes) else msgspec.json.encode(getattr(value, "data", value))


def test_every_route_is_described() -> None:
    assert set(OPERATIONS) == routes(an_application()) - NOT_DESCRIBED
    assert {operation["operationId"] for operation in OPERATIONS.values()} == set(
        described_routes(an_application())
    )


def test_the_described_roles_are_let_in() -> None:
    for route, (expected, *_) in ROUTES.items():
        let_in = sorted(role for role, status in expected.items() if status != 403)
        described = OPERATIONS[route]["description"].removesuffix(NO_KEY)
        if described == "Any valid key.":
            assert len(let_in) == 5
        else:
            assert described == f"Roles: {', '.join(let_in)}."


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda op: op["operationId"])
def test_an_operation_is_completely_described(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["tags"]
    statuses = operation["responses"]
    assert any(status.startswith("2") for status in statuses)
    for status in statuses:
        answer = answer_of(operation, status)
        if status.startswith("4"):
            assert answer["content"].keys() == {"application/problem+json"}
        elif status != "204":
            assert answer["content"]
    assert ("401" in statuses) == bool(operation["security"])


def test_every_reference_resolves() -> None:
    references = set(re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(DOCUMENT)))
    assert {kind for kind, _ in references} == {"schemas", "responses"}
    assert all(name in DOCUMENT["components"][kind] for kind, name in references)


def test_everything_is_described_once_with_an_example() -> None:
    assert flaws(DOCUMENT) == []


class CarelessHalf(Struct):
    """A half of what the careless route answers."""

    side: Annotated[Literal["left", "right"], Meta(examples=["left"])]
    """The side of this half."""


class CarelessBody(Struct):
    silent: Annotated[int, Meta(examples=[7])]
    abstract: int
    """A number of which nobody can guess an example."""
    when: Annotated[str, Meta(examples=["2026-01-31T12:00:00Z"])]
    """A time."""
    side: Annotated[Literal["left", "right"], Meta(examples=["left"])]
    """The side again."""
    wrong: Annotated[int, Meta(examples=["seven"])]
    """A number."""
    half: CarelessHalf
    """The half."""


@get("/careless", operation_id="careless", opt=needs_no_key())
async def careless(depth: Annotated[int, QueryParameter(ge=1)] = 1) -> CarelessBody:
    """A route that leaves much unsaid."""
    raise NotImplementedError(depth)


@post("/careless", status_code=204, operation_id="moreCareless", opt=needs_no_key(writes=True))
async def more_careless() -> None:
    """A route that does not say what its answer means."""


router = Router("/", route_handlers=[careless, more_careless], tags=["Careless"])


def test_a_route_that_leaves_something_unsaid_is_named_with_what_to_do() -> None:
    feature = Feature(name="careless", routes=(f"{__name__}:router",))
    field, values = "put a docstring under the field", "annotate the field with Meta(examples=[…])"
    assert flaws(json.loads(description((feature,)))) == [
        "GET /careless: parameter depth has no description: state it in its PathParameter or "
        "QueryParameter",
        "GET /careless: parameter depth has no example: state it in its PathParameter or "
        "QueryParameter",
        "GET /careless: answer 200 does not say what it means: give the contract of the route "
        "`meanings`",
        "GET /careless: CarelessBody has no description: give the type a docstring",
        f"GET /careless: CarelessBody.silent has no description: {field}",
        f"GET /careless: CarelessBody.abstract has no example: {values}, or with a shape of "
        "ledger.shapes",
        "GET /careless: CarelessBody.when is a time without a format: give it the type TimeText",
        "GET /careless: CarelessBody.wrong has an example that does not fit: "
        '"seven" is not of type "integer"',
        f"GET /careless: answer 200 application/json has no example: {values}, or with a shape of "
        "ledger.shapes, or give the contract an `example`",
        "POST /careless: answer 204 does not say what it means: give the contract of the route "
        "`meanings`",
        "GET /careless: CarelessBody.side and GET /careless: CarelessHalf.side have one shape: "
        "give them one type, with a title where it is no struct (ledger.shapes.shape)",
    ]


class OrgResources:
    """An org with one resource of each kind, whose ids are put into generated requests."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.org, self.key = server.create_org()
        made = server.request(
            "POST", f"/v1/orgs/{self.org}/entries", {"subject": "bob"}, key=self.key
        )
        job = server.request("POST", f"/v1/orgs/{self.org}/verifications?wait=30", key=self.key)
        self.things = {
            "org": self.org,
            "record": made.json()["record_id"],
            "job_id": job.json()["id"],
            "size": "1",
        }
        signed = SignedTrees(server)
        signed.sign()
        signed.anchor()


@pytest.fixture(scope="module")
def org_resources(shared_server: Server) -> OrgResources:
    return OrgResources(shared_server)


@pytest.mark.parametrize(
    "operation_id", sorted(operation["operationId"] for operation in OPERATIONS.values())
)
def test_generated_requests_are_answered_as_described(
    operation_id: str, org_resources: OrgResources
) -> None:
    # Not schema.parametrize(): its tests share one node id, and a parallel run keeps only one of them.
    operation = schema.find_operation_by_id(operation_id)

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        derandomize=True,
    )
    def is_answered_as_described(case: Any) -> None:
        if case.operation.method == "post" and case.path.endswith("/verifications"):
            case.query = {**(case.query or {}), "wait": 0}
        for name in case.path_parameters or {}:
            if name in org_resources.things and len(str(case.path_parameters[name])) % 3:
                case.path_parameters[name] = org_resources.things[name]
        case.headers.pop("Authorization", None)  # generated, and would take precedence over the key
        key = org_resources.server.platform_key if case.path == "/v1/orgs" else org_resources.key
        case.call_and_validate(
            base_url=org_resources.server.url,
            headers={"x-api-key": key},
            checks=CONFORM,
            timeout=60,
        )

    is_answered_as_described()
