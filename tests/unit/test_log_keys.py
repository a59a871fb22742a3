"""Log keys: signing, opening notes by the key history, rotation, and the file."""

import pytest

from ledger.checkpoint import TreeHead
from ledger.errors import (
    CheckpointError,
    InvalidSignature,
    KeyHistoryError,
    LogKeyError,
    UnsignedNote,
)
from ledger.log_keys import (
    anchor_origin,
    check_base_origin,
    generate,
    open_anchor,
    open_org_checkpoint,
    org_origin,
    rotate,
)
from ledger.note import CosignatureSigner, SignatureType, parse_note, sign_note
from tests.support.log_keys import (
    NOW_US,
    ORIGIN,
    ROOT,
    anchor_note,
    keys,
    org_note,
    seeds,
)


def test_the_names_of_the_logs() -> None:
    assert org_origin("q.example", "acme-1") == "q.example/orgs/acme-1"
    assert anchor_origin("q.example/x") == "q.example/x/anchors"
    (org,) = keys().org_signers("acme")
    assert (org.name, org.kind) == (f"{ORIGIN}/orgs/acme", SignatureType.ED25519)
    ed25519, ml_dsa = keys().anchor_signers()
    assert ed25519.name == ml_dsa.name == f"{ORIGIN}/anchors"
    assert (ed25519.kind, ml_dsa.kind) == (0x01, 0x06)
    assert [v.key_id for v in keys().public().anchor_verifiers()] == [ed25519.key_id, ml_dsa.key_id]
    assert [v.key_id for v in keys().public().org_verifiers("acme")] == [org.key_id]


@pytest.mark.parametrize(
    "origin",
    [
        "q",
        "quire.local/0123abcd",
        "audit.example.com",
        "localhost:8080/a/b",
        "a-b.c/D_e~f",
        "a" * 180,
    ],
)
def test_valid_base_origins(origin: str) -> None:
    assert check_base_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "https://a",
        "A",
        "a b",
        "a+b",
        "a\n",
        "ä",
        "a:x",
        "a" * 181,
        "-a",
    ],
)
def test_invalid_base_origins(origin: str) -> None:
    with pytest.raises(KeyHistoryError, match="without scheme"):
        check_base_origin(origin)
    with pytest.raises(KeyHistoryError):
        generate(origin, seeds(0), NOW_US)


@pytest.mark.parametrize("slug", ["", "A", "a/b", "-a", "a-", "a" * 64, "a\n", "../anchors"])
def test_an_invalid_slug_has_no_log(slug: str) -> None:
    with pytest.raises(KeyHistoryError, match="not a valid slug"):
        keys().org_signers(slug)
    with pytest.raises(KeyHistoryError, match="not a valid slug"):
        keys().public().org_verifiers(slug)


def test_the_longest_names_can_be_signed() -> None:
    longest = keys(1, "a" * 180)
    slug = "s" * 63
    assert open_org_checkpoint(org_note(longest, slug), slug, longest.public()).checkpoint.size == 3
    assert open_anchor(anchor_note(longest), longest.public()).checkpoint.size == 3


def test_checkpoints_of_every_key_open_by_the_history() -> None:
    history = keys(3).public()
    for count in (1, 2, 3):
        signed_by = keys(count)
        assert open_org_checkpoint(org_note(signed_by), "acme", history).checkpoint.size == 3
        anchor = open_anchor(anchor_note(signed_by), history)
        assert anchor.key.id == signed_by.active_id
        assert anchor.time_s == 1_700_000_000
        assert anchor.checkpoint.origin == f"{ORIGIN}/anchors"


def test_a_key_that_never_was_in_the_history_is_foreign() -> None:
    other = generate(ORIGIN, seeds(99), NOW_US)
    with pytest.raises(UnsignedNote):
        open_org_checkpoint(org_note(other), "acme", keys(3).public())
    with pytest.raises(UnsignedNote):
        open_anchor(anchor_note(other), keys(3).public())
    with pytest.raises(UnsignedNote):
        open_anchor(anchor_note(keys(3)), keys(2).public())


def test_a_checkpoint_of_another_org_is_refused() -> None:
    with pytest.raises(UnsignedNote):
        open_org_checkpoint(org_note(keys(), "acme"), "other", keys().public())
    text = TreeHead(org_origin(ORIGIN, "other"), 3, ROOT).text()
    crossed = sign_note(text, keys().org_signers("acme"))
    with pytest.raises(CheckpointError, match="belongs to the log"):
        open_org_checkpoint(crossed, "acme", keys().public())


@pytest.mark.parametrize("kept", [0, 1])
def test_an_anchor_that_lost_a_signature_is_refused(kept: int) -> None:
    note = parse_note(anchor_note(keys()))
    cut = note.text + b"\n" + note.signatures[kept].line()
    with pytest.raises(UnsignedNote, match="lacks one of the two"):
        open_anchor(cut, keys().public())


def test_two_keys_do_not_make_one_pair() -> None:
    old, new = parse_note(anchor_note(keys(1))), parse_note(anchor_note(keys(2)))
    for lines in (
        (old.signatures[0], new.signatures[1]),
        (new.signatures[0], old.signatures[1]),
    ):
        mixed = old.text + b"\n" + b"".join(line.line() for line in lines)
        with pytest.raises(UnsignedNote, match="by the same key"):
            open_anchor(mixed, keys(2).public())


def test_an_anchor_of_both_keys_is_the_newer_ones() -> None:
    text = TreeHead(anchor_origin(ORIGIN), 3, ROOT).text()
    note = sign_note(text, [*keys(2).anchor_signers(), *keys(1).anchor_signers()], 5)
    assert open_anchor(note, keys(2).public()).key.position == 1
    assert open_anchor(note, keys(1).public()).key.position == 0


def test_an_anchor_with_a_forged_half_is_refused() -> None:
    note = anchor_note(keys())
    with pytest.raises(InvalidSignature):
        open_anchor(note.replace(b"\n3\n", b"\n4\n"), keys().public())
    one, two = parse_note(note), parse_note(anchor_note(keys(), 4))
    swapped = one.text + b"\n" + one.signatures[0].line() + two.signatures[1].line()
    with pytest.raises(InvalidSignature, match="ML-DSA-44"):
        open_anchor(swapped, keys().public())


def test_an_anchor_carries_witnesses() -> None:
    witness = CosignatureSigner.from_seed("w.example", b"w" * 32)
    text = TreeHead(anchor_origin(ORIGIN), 3, ROOT).text()
    note = sign_note(text, [*keys().anchor_signers(), witness], 7)
    opened = open_anchor(note, keys().public(), [witness.verifier()])
    assert [one.verifier.name for one in opened.note.verified][2:] == ["w.example"]
    bare = sign_note(text, [witness], 7)
    with pytest.raises(CheckpointError, match="no key of the log"):
        open_anchor(bare, keys().public(), [witness.verifier()])


def test_an_anchor_has_no_extension_lines() -> None:
    text = TreeHead(anchor_origin(ORIGIN), 3, ROOT, ("more",)).text()
    note = sign_note(text, keys().anchor_signers()[:1])
    with pytest.raises(CheckpointError, match="extension"):
        open_anchor(note, keys().public())


def test_a_rotation_keeps_the_older_keys() -> None:
    before, after = keys(1), keys(2)
    history = after.public()
    assert after.origin == before.origin
    assert after.active_id == history.newest.id != before.active_id
    assert [key.position for key in history.keys] == [0, 1]
    assert [key.created_us for key in history.keys] == [NOW_US, NOW_US + 1]
    assert [key.retired_us for key in history.keys] == [NOW_US + 1, None]
    assert history.encoded_statements()[:1] == before.public().encoded_statements()
    history.check_extends(before.public())
    history.check_extends(history)
    with pytest.raises(KeyHistoryError, match="does not extend"):
        before.public().check_extends(history)
    with pytest.raises(KeyHistoryError, match="does not extend"):
        history.check_extends(keys(1, "other.example").public())


def test_a_clock_that_went_back_is_not_followed() -> None:
    after = rotate(keys(1), seeds(1), NOW_US - 1_000_000)
    assert [key.created_us for key in after.public().keys] == [NOW_US, NOW_US]


def test_a_key_never_returns() -> None:
    with pytest.raises(LogKeyError, match="must not return"):
        rotate(keys(2), seeds(0), NOW_US + 9)
    with pytest.raises(LogKeyError, match="must not return"):
        rotate(keys(2), seeds(1), NOW_US + 9)
