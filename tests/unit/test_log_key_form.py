"""The log key file: its form, its limits, and no secret in any output."""

import base64
import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import (
    KeyHistoryError,
    LogKeyError,
)
from ledger.log_keys import (
    KEYS_MAX,
    KeyPins,
    KeySeeds,
    LogKeyHistory,
    dump_log_keys,
    generate,
    open_anchor,
    parse_log_keys,
    parse_trust,
    rotate,
)
from tests.support.log_keys import (
    NOW_US,
    ORIGIN,
    Change,
    anchor_note,
    keys,
    org_note,
    put,
    seeds,
)
from tests.support.trails import raises_only


def test_the_limit_of_keys_fits_the_file() -> None:
    full = keys(KEYS_MAX)
    content = dump_log_keys(full)
    assert len(content) < 1 << 20
    assert parse_log_keys(content).active_id == full.active_id
    assert LogKeyHistory.parse(full.public().document()).newest == full.public().newest
    assert (
        KeyPins.parse(full.public().pins().document()).by_position
        == full.public().pins().by_position
    )
    with pytest.raises(LogKeyError, match="at most 100 keys"):
        rotate(full, seeds(KEYS_MAX), NOW_US)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_file_reads_back(count: int) -> None:
    made = keys(count)
    read = parse_log_keys(dump_log_keys(made))
    assert dump_log_keys(read) == dump_log_keys(made)
    assert (read.origin, read.active_id) == (made.origin, made.active_id)
    assert org_note(read) == org_note(made)
    assert open_anchor(anchor_note(read), made.public()).key.id == made.active_id


def test_a_file_holds_the_active_seeds_only() -> None:
    content = dump_log_keys(keys(3))
    assert base64.b64encode(b"e%031d" % 2) in content
    for number in (0, 1):
        assert base64.b64encode(b"e%031d" % number) not in content
        assert base64.b64encode(b"m%031d" % number) not in content


def test_seeds_must_be_two_of_32_bytes() -> None:
    for one, two in ((b"x" * 31, b"y" * 32), (b"x" * 32, b"y" * 33), (b"", b"y" * 32)):
        with pytest.raises(LogKeyError, match="seed has 32 bytes"):
            KeySeeds(one, two)
    with pytest.raises(LogKeyError, match="must differ"):
        KeySeeds(b"x" * 32, b"x" * 32)


def file_of(count: int = 2) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(dump_log_keys(keys(count)))
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("active", "ed25519_seed", value=base64.b64encode(b"x" * 32).decode()), "history ends"),
        (
            put("active", "ml_dsa_44_seed", value=base64.b64encode(b"x" * 32).decode()),
            "history ends",
        ),
        (put("active", "ed25519_seed", value="do-not-show"), "must be JSON"),
        (
            put("active", "ed25519_seed", value=base64.b64encode(b"do-not-show").decode()),
            "32 bytes",
        ),
        (put("active", "id", value="lk-0000000000000000"), "active key's id"),
        (put("history", value=json.loads(keys(1).public().document())), "history ends"),
        (put("history", value=json.loads(keys(3).public().document())), "history ends"),
        (put("history", "keys", 1, "statement", "v", value=2), "version 1"),
        (put("more", value=1), "must be JSON"),
    ],
)
def test_an_altered_file_is_refused_without_showing_a_seed(change: Change, message: str) -> None:
    document = file_of()
    change(document)
    with pytest.raises(LogKeyError, match=message) as caught:
        parse_log_keys(json.dumps(document).encode())
    for secret in ("do-not-show", "ZG8tbm90LXNob3c", base64.b64encode(b"e%031d" % 1).decode()):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"{}", b"\xff", b"[" * 100_000, b'{"active": ' + b"[" * 100_000, b" " * 2**21],
)
def test_other_bytes_are_no_keys(data: bytes) -> None:
    with pytest.raises(LogKeyError):
        parse_log_keys(data)
    with pytest.raises(KeyHistoryError):
        LogKeyHistory.parse(data)
    with pytest.raises(KeyHistoryError):
        LogKeyHistory.of([data])


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_arbitrary_bytes_raise_only_their_own_errors(data: bytes) -> None:
    raises_only(LogKeyError, partial(parse_log_keys, data))
    for read in (LogKeyHistory.parse, KeyPins.parse, parse_trust):
        raises_only(KeyHistoryError, partial(read, data))


def test_no_seed_shows_in_a_repr() -> None:
    made = KeySeeds(b"do-not-show-this-seed-to-anyone!", b"nor-this-other-seed-to-anybody!!")
    whole = generate(ORIGIN, made, NOW_US)
    shown = "".join(map(repr, (made, whole, whole.public(), *whole.anchor_signers())))
    assert "do-not-show" not in shown
    assert "nor-this" not in shown
