"""A domain is one folder: plugged in, all its parts work without a change elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from click.testing import CliRunner

from server.access.rights import Role
from server.app.application import description
from server.app.features import FEATURES
from server.cli.base.root import RootGroup
from server.cli.main import commands
from server.feature import added_settings
from server.http.problems import problems
from server.process.children.context import CONTEXT, ProcessContext
from server.settings import Settings, SettingsError, documented
from tests.support.clusters import Cluster
from tests.support.described import flaws
from tests.support.route_matrix import (
    Case,
    Matrix,
    cases,
    closed_without_a_valid_key,
    let_in_by_contract,
    others_look_like_none,
)
from tests.support.serving import Server, start_server
from tests.toy_domain.entry_kinds import WOUND
from tests.toy_domain.feature import FEATURE
from tests.toy_domain.settings import ToySettings

WITH_TOYS: Final = (*FEATURES, FEATURE)
_BUILT_IN: Final = cases()
CASES: Final = [case for case in cases(WITH_TOYS) if case not in _BUILT_IN]
REPOSITORY: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def toy_server(postgres_cluster: Cluster, session_dir: Path) -> Iterator[Server]:
    database = postgres_cluster.migrated()
    running = start_server(database, session_dir / uuid4().hex[:8], WITH_TOYS, toy_turns=50)
    yield running
    running.stop()
    postgres_cluster.drop(database)


@pytest.fixture(scope="module")
def matrix(toy_server: Server) -> Matrix:
    return Matrix(toy_server)


def wind(server: Server, turns: int) -> tuple[str, str, Any]:
    """Wind the toys of a new org; returns its slug, a member's key, and the answer."""
    org, _ = server.create_org()
    key = server.create_key(org, "member")
    return org, key, server.request("POST", f"/v1/orgs/{org}/toys", {"turns": turns}, key=key)


def test_nothing_outside_this_folder_names_the_domain() -> None:
    here = Path(__file__).parent
    named = [
        path
        for folder in ("server", "ledger", "tests", "bench")
        for path in (REPOSITORY / folder).rglob("*.*")
        if path.suffix == ".py" and here not in path.parents
        if "toy_domain" in path.read_text(errors="replace")
    ]
    assert named == []


def test_the_routes_are_served() -> None:
    assert [str(case) for case in CASES] == [
        "GET /v1/orgs/{org}/toys",
        "HEAD /v1/orgs/{org}/toys",
        "POST /v1/orgs/{org}/toys",
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_routes_use_the_domain_s_right(matrix: Matrix, case: Case) -> None:
    let_in_by_contract(matrix, case)
    closed_without_a_valid_key(matrix, case)
    others_look_like_none(matrix, case)


def test_the_right_has_its_named_roles(matrix: Matrix) -> None:
    (winding,) = [case for case in CASES if case.method == "POST"]
    answers = matrix.answers(winding)
    assert {role for role in Role if answers[role] == 200} == {Role.MEMBER, Role.PLATFORM}
    refused = matrix.call(winding, matrix.own[Role.ADMIN])
    assert refused.json()["detail"] == (
        "this API key has the role admin, which may not wind up toys; "
        "use a key with the role member, which an admin of the org can make"
    )


def test_the_task_runs_beside_the_requests(toy_server: Server) -> None:
    org, key, wound = wind(toy_server, 2)
    assert wound.json() == {"turns": 2, "watched": True}
    assert toy_server.request("GET", f"/v1/orgs/{org}/toys", key=key).json()["turns"] == 2


def test_the_entry_is_in_the_trail(toy_server: Server) -> None:
    org, key, _ = wind(toy_server, 3)
    entries = toy_server.request("GET", f"/v1/orgs/{org}/entries", key=key).json()["entries"]
    assert [entry["event_type"] for entry in entries] == [WOUND.event_type]
    assert WOUND in [kind for feature in WITH_TOYS for kind in feature.entry_kinds]


def test_the_error_is_answered_with_its_problem(toy_server: Server) -> None:
    _, _, answer = wind(toy_server, 51)
    assert answer.status == 409
    assert answer.json() == {
        "type": "https://quire.dev/problems/toy-overwound",
        "title": "The spring would break",
        "status": 409,
        "detail": "a toy takes 50 turns at most",
    }
    assert "toy-overwound" in problems("tests.toy_domain")
    assert "toy-overwound" not in problems()


def test_a_body_that_does_not_fit_its_type_is_refused(toy_server: Server) -> None:
    _, _, answer = wind(toy_server, 0)
    assert answer.status == 400
    assert "turns" in answer.json()["detail"]


def test_a_part_of_a_query_that_would_be_ignored_is_refused(toy_server: Server) -> None:
    org, _ = toy_server.create_org()
    key = toy_server.create_key(org, "member")
    answer = toy_server.request("POST", f"/v1/orgs/{org}/toys?turn=1", {"turns": 1}, key=key)
    assert answer.status == 400


def test_the_metric_is_counted(toy_server: Server) -> None:
    def turns() -> float:
        lines = toy_server.metrics().splitlines()
        assert "# HELP quire_toy_turns_total Turns by which toys were wound" in lines
        (line,) = [line for line in lines if line.startswith("quire_toy_turns_total ")]
        return float(line.split()[1])

    before = turns()
    wind(toy_server, 4)
    assert turns() == before + 4


def test_the_settings_are_read_checked_and_documented() -> None:
    sections = added_settings(WITH_TOYS)
    environ = {"QUIRE_TOY_TURNS": "9", "QUIRE_TOY_MAKER": "ada"}
    settings = Settings.from_env(environ, added=sections)
    assert settings.of(ToySettings) == ToySettings(toy_turns=9, toy_maker="ada")
    assert Settings.from_env({}, added=sections).of(ToySettings) == ToySettings()
    assert "ada" not in repr(settings)
    rows = {row.name: row for row in documented(sections)}
    assert rows["QUIRE_TOY_TURNS"] == ("QUIRE_TOY_TURNS", "7", "Turns that a toy takes")
    assert set(rows) - {row.name for row in documented(added_settings(FEATURES))} == set(environ)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("QUIRE_TOY_TURNS", "101", '"101" is not a whole number from 1 to 100'),
        ("QUIRE_TOY_MAKER", "ADA", "the value is not a word in lower case"),
        ("QUIRE_TOY_TURN", "1", "Did you mean QUIRE_TOY_TURNS?"),
    ],
)
def test_a_wrong_setting_is_explained(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: value}, added=added_settings(WITH_TOYS))
    assert said in str(caught.value)
    assert variable in str(caught.value)


def test_without_the_domain_its_settings_are_unknown() -> None:
    with pytest.raises(SettingsError, match="QUIRE_TOY_TURNS is not a setting of this version"):
        Settings.from_env({"QUIRE_TOY_TURNS": "9"})


def test_two_sections_can_t_have_one_setting() -> None:
    twice = (*added_settings(WITH_TOYS), *added_settings([FEATURE]))
    with pytest.raises(ValueError, match="another section has toy_turns too"):
        documented(twice)


def test_the_settings_reach_the_server_s_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_env({"QUIRE_TOY_TURNS": "9"}, added=added_settings(WITH_TOYS))
    monkeypatch.setenv(CONTEXT, ProcessContext(settings, "postgresql://h/d").encoded())
    assert ProcessContext.from_environment().settings.of(ToySettings).toy_turns == 9
    assert ProcessContext.from_environment().settings == replace(settings)


def test_the_command_is_listed_and_runs() -> None:
    program = RootGroup("quire", lazy=commands(WITH_TOYS))
    listed = CliRunner().invoke(program, ["--help"]).output
    assert "toys          Say what toys are there." in listed
    assert CliRunner().invoke(program, ["toys"]).output == "a tin frog\n"


def test_the_api_s_description_has_the_domain(toy_server: Server) -> None:
    served = toy_server.request("GET", "/openapi.json").json()
    assert served == json.loads(description(WITH_TOYS))
    names = [tag["name"] for tag in served["tags"]]
    assert names.index("Archive") < names.index("Toys") < names.index("Operations")
    operation = served["paths"]["/v1/orgs/{org}/toys"]["post"]
    assert operation["summary"] == "Wind up the toys of an org"
    assert operation["description"] == "Roles: member, platform."
    assert operation["tags"] == ["Toys"]
    assert set(operation["responses"]) == {
        "200", "400", "401", "403", "404", "408", "409", "413", "423", "429", "503",
    }  # fmt: skip
    assert operation["responses"]["409"] == {"$ref": "#/components/responses/Problem409"}
    conflicts = served["components"]["responses"]["Problem409"]
    assert "The spring would break" in conflicts["description"]
    examples = conflicts["content"]["application/problem+json"]["examples"]
    assert examples["toy-overwound"]["value"]["detail"] == "a toy takes 7 turns at most"
    body = operation["requestBody"]["content"]["application/json"]
    assert body == {"schema": {"$ref": "#/components/schemas/WindToy"}, "example": {"turns": 1}}
    problem_types = served["components"]["schemas"]["ProblemType"]["enum"]
    assert "https://quire.dev/problems/toy-overwound" in problem_types
    assert flaws(served) == []


def test_without_the_domain_the_description_lacks_it() -> None:
    assert b"toy" not in description()
