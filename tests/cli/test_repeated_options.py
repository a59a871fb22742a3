"""An option that is given twice is refused: the last of two filters must not count silently."""

from __future__ import annotations

import click
import pytest

from tests.cli.commands import Leaf, invoke, leaves

CLIENT = {"QUIRE_API_KEY": "quire_live_a_secretsecret", "QUIRE_URL": "http://127.0.0.1:9"}


def texts(leaf: Leaf) -> list[click.Option]:
    """The options of a command that take one value."""
    return [
        parameter
        for parameter in leaf.command.params
        if isinstance(parameter, click.Option)
        and not (parameter.is_flag or parameter.multiple or parameter.count)
    ]


SINGLE = [
    pytest.param(leaf, option, id=f"{' '.join(leaf.path)} {option.opts[0]}")
    for leaf in leaves()
    for option in texts(leaf)
]


@pytest.mark.parametrize(("leaf", "option"), SINGLE)
def test_an_option_given_twice_is_refused(leaf: Leaf, option: click.Option) -> None:
    for name in option.opts:
        result = invoke(*leaf.path, name, "1", option.opts[-1], "2", settings=CLIENT)
        assert result.exit_code == 2
        assert "it is given twice; give it once" in result.stderr, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["entries", "list", "demo", "--actor", "n", "--actor", "x"],
        ["entries", "list", "demo", "--actor=n", "--actor=n"],
        ["bundle", "create", "demo", "--since", "2026-01-01", "--since", "2026-01-02"],
        ["orgs", "create", "x", "--privacy", "plain", "--privacy", "sealed"],
        ["verify", "demo", "--from", "1", "--from", "2"],
    ],
)
def test_a_filter_given_twice_is_refused(arguments: list[str]) -> None:
    result = invoke(*arguments, settings=CLIENT)
    assert (result.exit_code, "given twice" in result.stderr) == (2, True)


def test_options_that_may_be_repeated_are_accepted() -> None:
    for more in (["--json", "--json"], ["--disclose", "a", "--disclose", "b"]):
        result = invoke("bundle", "create", "demo", "--from", "0", *more, settings=CLIENT)
        assert "given twice" not in result.stderr
        assert "can't connect" in result.stderr
