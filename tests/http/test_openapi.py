"""The API's description is complete, and the server behaves as it says."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import msgspec
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.http.api.description import NO_KEY, promises_of
from tests.support.described import DOCUMENT, OPERATIONS
from tests.support.rights import ROUTES
from tests.support.routes import an_application, routes
from tests.support.serving import Server
from tests.support.signed_trees import SignedTrees

NOT_DESCRIBED = {("GET", path) for path in ("/docs", "/openapi.json", "/static/{name}", "/verify")}
CONFORM = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
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
        promises_of(an_application())
    )


def test_the_described_roles_are_let_in() -> None:
    for route, (expected, _) in ROUTES.items():
        let_in = sorted(role for role, status in expected.items() if status != 403)
        described = OPERATIONS[route]["description"].removesuffix(NO_KEY)
        if described == "Any valid key.":
            assert len(let_in) == 4
        else:
            assert described == f"Roles: {', '.join(let_in)}."


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda op: op["operationId"])
def test_an_operation_is_completely_described(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["tags"]
    assert all(parameter.get("description") for parameter in operation.get("parameters", []))
    for body in operation.get("requestBody", {}).get("content", {}).values():
        assert "example" in body or "examples" in body or body["schema"].get("format") == "binary"
    statuses = operation["responses"]
    assert any(status.startswith("2") for status in statuses)
    for status, answer in statuses.items():
        assert answer["description"]
        if status.startswith("4"):
            assert answer["content"].keys() == {"application/problem+json"}
        elif status != "204":
            assert answer["content"]
    assert ("401" in statuses) == bool(operation["security"])


def test_every_reference_resolves() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for part in json.dumps(DOCUMENT).split('"$ref": "#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas


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
