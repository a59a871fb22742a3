"""The rules of the suite itself: imports, names of fixtures, case files, the map in README.md."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support.rings import shares_of_module

TESTS = Path(__file__).parent
README = (TESTS / "README.md").read_text()
MODULES = sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py"))
SAYS_NOTHING = {
    *("one", "two", "common", "window", "start", "trail", "module_database"),
    *("empty", "other", "cut", "whole", "large", "place", "made", "soon", "bare"),
}


@cache
def _tree(module: str) -> ast.Module:
    """Parse a module: by the tests that look at it, not in every process that collects them."""
    return ast.parse((TESTS / module).read_bytes())


def _imports(tree: ast.Module) -> set[str]:
    """The dotted names of the modules that a module imports, and of the names from them."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _fixtures(tree: ast.Module) -> list[str]:
    return [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and any("fixture" in ast.unparse(each) for each in node.decorator_list)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_from_a_test_module(module: str) -> None:
    taken = {
        name
        for name in _imports(_tree(module))
        if name.startswith("tests.")
        and any(re.match(r"test_|conftest$", part) for part in name.split("."))
        and _is_a_module(name)
    }
    assert not taken, f"tests/{module} takes from {taken}: move it to tests/support"


def _is_a_module(name: str) -> bool:
    return TESTS.parent.joinpath(*name.split(".")).with_suffix(".py").is_file()


def test_fixtures_have_telling_names() -> None:
    vague = {
        (module, name)
        for module in MODULES
        for name in _fixtures(_tree(module))
        if name in SAYS_NOTHING
    }
    assert not vague


def test_a_shared_fixture_is_defined_once() -> None:
    shared = Counter(
        name
        for module in MODULES
        if module.startswith("plugins/") or module.endswith("conftest.py")
        for name in _fixtures(_tree(module))
    )
    assert {name for name, count in shared.items() if count > 1} == set()


def test_case_files_are_read_by_one_reader_in_modules_named_cases() -> None:
    readers = {module for module in MODULES if "tests.support.cases" in _imports(_tree(module))}
    named = {module for module in MODULES if re.search(r"(^|/)test_\w+_cases\.py$", module)}
    assert readers == named
    for module in MODULES:
        if module in {"test_suite.py", "support/cases.py"}:
            continue
        text = (TESTS / module).read_text()
        assert "CASES_DIR" not in re.sub(r'""".*?"""', "", text, flags=re.DOTALL), module
        if module not in named:
            assert not re.search(r"_cases\.jsonl", text), f"{module} reads a case file"


def test_the_map_names_every_folder_and_every_module_of_support() -> None:
    folders = {path.parent.name for path in TESTS.glob("*/*") if path.parent.name != "__pycache__"}
    modules = {path.name for path in (TESTS / "support").glob("*.py")} - {"__init__.py"}
    rows = re.findall(r"^\| `([\w./]+)` \| (.+) \|$", README, re.MULTILINE)
    assert {name for name, _ in rows} == {f"{folder}/" for folder in folders} | modules
    assert all(what.strip() for _, what in rows)


def test_tests_that_share_a_fixture_of_their_module_share_a_worker_process(
    request: pytest.FixtureRequest,
) -> None:
    """Else pytest-xdist sets up the module's server or database in every worker process."""
    apart = {
        item.nodeid
        for item in request.session.items
        if shares_of_module(item) and item.get_closest_marker("xdist_group") is None
    }
    assert apart == set()


SHORTEST_S = 30.0
"""A deadline that only ends a test that hangs is longer: machines differ, and are busy."""


def _deadlines(tree: ast.Module) -> list[float]:
    """The constant seconds after which a test fails by ``asyncio.timeout`` or ``wait_for``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bounds = {"asyncio.timeout": 0, "asyncio.wait_for": 1}
    arguments = [
        call.args[place]
        for call in calls
        if (place := bounds.get(ast.unparse(call.func))) is not None and len(call.args) > place
    ]
    constants = [node.value for node in arguments if isinstance(node, ast.Constant)]
    return [value for value in constants if isinstance(value, (int, float))]


@pytest.mark.parametrize("module", MODULES)
def test_no_test_depends_on_seconds(module: str) -> None:
    """A deadline below a tenth of a second is one that the test wants to pass."""
    found = [seconds for seconds in _deadlines(_tree(module)) if 0.1 <= seconds < SHORTEST_S]
    assert not found, f"tests/{module}: use tests.support.waiting.PATIENCE_S instead of {found}"
