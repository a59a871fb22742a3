"""Checkpoints: their text, and opening the checkpoints of one log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import (
    EXTENSIONS_MAX,
    SIZE_MAX,
    TreeHead,
    open_checkpoint,
    parse_checkpoint,
)
from ledger.errors import CheckpointError, InvalidSignature, NoteError, UnsignedNote
from ledger.note import CosignatureSigner, Ed25519Signer, sign_note
from tests.support.trails import raises_only

ROOT = bytes(range(32))
ROOT_LINE = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
LOG = Ed25519Signer.from_seed("log.example/7", b"l" * 32)
WITNESS = CosignatureSigner.from_seed("w.example", b"w" * 32)
CHECKPOINT = TreeHead("log.example/7", 12, ROOT)

lines = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)
checkpoints = st.builds(
    TreeHead,
    lines,
    st.integers(0, SIZE_MAX),
    st.binary(min_size=32, max_size=32),
    st.lists(lines, max_size=4).map(tuple),
)


@given(checkpoints)
def test_a_checkpoint_reads_back(checkpoint: TreeHead) -> None:
    assert parse_checkpoint(checkpoint.text()) == checkpoint


def test_the_text_of_a_checkpoint() -> None:
    assert CHECKPOINT.text() == b"log.example/7\n12\n" + ROOT_LINE
    extended = TreeHead("an origin with spaces +", 0, ROOT, ("one", "two"))
    assert extended.text() == b"an origin with spaces +\n0\n" + ROOT_LINE + b"one\ntwo\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"log\n",
        b"log\n1\n",
        b"log\n1\n\n",
        b"log\n1\n" + ROOT_LINE[:-1],
        b"\n1\n" + ROOT_LINE,
        b"log\n\n" + ROOT_LINE,
        b"log\n1\n" + ROOT_LINE + b"\n",
        b"log\n1\n" + ROOT_LINE + b"extension",
        b"log\n1\n" + ROOT_LINE + b"one\n\nthree\n",
        b"log\n1\n" + ROOT_LINE + b"x\n" * (EXTENSIONS_MAX + 1),
        b"log\n01\n" + ROOT_LINE,
        b"log\n+1\n" + ROOT_LINE,
        b"log\n-1\n" + ROOT_LINE,
        b"log\n1_0\n" + ROOT_LINE,
        b"log\n 1\n" + ROOT_LINE,
        b"log\n1 \n" + ROOT_LINE,
        b"log\n0x1\n" + ROOT_LINE,
        "log\n\N{ARABIC-INDIC DIGIT ONE}\n".encode() + ROOT_LINE,
        b"log\n9223372036854775808\n" + ROOT_LINE,
        b"log\n" + b"9" * 50 + b"\n" + ROOT_LINE,
        b"log\n1\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\n",
        b"log\n1\n" + ROOT_LINE.replace(b"=", b""),
        b"log\n1\n" + ROOT_LINE.replace(b"8=", b"9="),
        b"log\n1\n" + ROOT_LINE.replace(b"AAEC", b"AA C"),
        b"log\r\n1\r\n" + ROOT_LINE,
        b"l\x00g\n1\n" + ROOT_LINE,
        b"l\xffg\n1\n" + ROOT_LINE,
        b"log\n1\n" + ROOT_LINE + b"\xff\n",
    ],
)
def test_malformed_checkpoints_are_refused(text: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse_checkpoint(text)


def test_the_largest_checkpoint() -> None:
    largest = TreeHead("log", SIZE_MAX, ROOT, ("x",) * EXTENSIONS_MAX)
    assert parse_checkpoint(largest.text()) == largest


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, ROOT, ()),
        ("a\nb", 1, ROOT, ()),
        ("a\ud800", 1, ROOT, ()),
        ("log", -1, ROOT, ()),
        ("log", SIZE_MAX + 1, ROOT, ()),
        ("log", 1, ROOT[1:], ()),
        ("log", 1, ROOT, ("",)),
        ("log", 1, ROOT, ("a\nb",)),
        ("log", 1, ROOT, ("x",) * (EXTENSIONS_MAX + 1)),
    ],
)
def test_values_no_checkpoint_can_have(
    origin: str, size: int, root: bytes, extensions: tuple[str, ...]
) -> None:
    with pytest.raises(CheckpointError):
        TreeHead(origin, size, root, extensions)


def test_a_checkpoint_of_the_log_opens() -> None:
    note = sign_note(CHECKPOINT.text(), [LOG, WITNESS], 1_700_000_000)
    opened = open_checkpoint(note, "log.example/7", [LOG.verifier()])
    assert opened.checkpoint == CHECKPOINT
    assert [one.name for one in opened.unknown] == ["w.example"]
    witnessed = open_checkpoint(note, "log.example/7", [LOG.verifier()], [WITNESS.verifier()])
    assert [one.time_s for one in witnessed.verified] == [None, 1_700_000_000]
    assert witnessed.note.text == CHECKPOINT.text()


def test_a_checkpoint_of_another_log_is_refused() -> None:
    note = sign_note(CHECKPOINT.text(), [LOG])
    with pytest.raises(CheckpointError, match=r"the log 'log\.example/7', not to 'log\.example/8'"):
        open_checkpoint(note, "log.example/8", [LOG.verifier()])


def test_witnesses_alone_make_no_checkpoint() -> None:
    note = sign_note(CHECKPOINT.text(), [WITNESS], 1)
    with pytest.raises(CheckpointError, match=r"no key of the log 'log\.example/7'"):
        open_checkpoint(note, "log.example/7", [LOG.verifier()], [WITNESS.verifier()])
    with pytest.raises(UnsignedNote):
        open_checkpoint(note, "log.example/7", [LOG.verifier()])


def test_a_bad_witness_refuses_a_checkpoint() -> None:
    note = sign_note(CHECKPOINT.text(), [LOG, WITNESS], 1)
    forged = note.replace(b"\n12\n", b"\n13\n")
    with pytest.raises(InvalidSignature):
        open_checkpoint(forged, "log.example/7", [LOG.verifier()])
    again = sign_note(forged.split(b"\n\n")[0] + b"\n", [LOG])
    assert open_checkpoint(again, "log.example/7", [LOG.verifier()]).checkpoint.size == 13
    stale = again + WITNESS.line(CHECKPOINT.text(), 1)
    with pytest.raises(InvalidSignature):
        open_checkpoint(stale, "log.example/7", [LOG.verifier()], [WITNESS.verifier()])


def test_a_signed_text_that_is_not_a_checkpoint_is_refused() -> None:
    with pytest.raises(CheckpointError):
        open_checkpoint(sign_note(b"hello\n", [LOG]), "log.example/7", [LOG.verifier()])


@given(st.binary() | lines.map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_their_own_errors(data: bytes) -> None:
    raises_only(CheckpointError, lambda: parse_checkpoint(data))
    raises_only(CheckpointError, lambda: parse_checkpoint(b"log\n" + data + ROOT_LINE))
    raises_only(CheckpointError, lambda: parse_checkpoint(b"log\n1\n" + data + b"\n"))
    raises_only(NoteError, lambda: open_checkpoint(data, "log.example/7", [LOG.verifier()]))
