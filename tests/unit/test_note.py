"""The form of signed notes: every rule of the specification, and the limits."""

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidSignature, NoteError, UnsignedNote
from ledger.note import (
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    CosignatureSigner,
    Ed25519Key,
    Ed25519Signer,
    NoteSignature,
    Signer,
    Verifier,
    add_signatures,
    open_note,
    parse_note,
    parse_signatures,
    sign_note,
)
from tests.support.trails import raises_only

ANN = Ed25519Signer.from_seed("ann.example", b"a" * 32)
BOB = Ed25519Signer.from_seed("bob.example/log", b"b" * 32)
TEXT = b"line one\n\nline three\n"
SIGNED = sign_note(TEXT, [ANN])
LINE = ANN.line(TEXT)

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")))
note_texts = st.lists(texts, min_size=1).map(
    lambda lines: "".join(f"{one}\n" for one in lines).encode()
)
names = st.text(
    st.characters(exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc"), exclude_characters="+"),
    min_size=1,
).filter(lambda name: not any(character.isspace() for character in name))


def verifiers(*signers: Signer) -> list[Verifier]:
    return [signer.verifier() for signer in signers]


def refusal(data: bytes, known: Sequence[Verifier] = ()) -> str:
    with pytest.raises(NoteError) as caught:
        open_note(data, known or verifiers(ANN))
    return str(caught.value)


def test_a_note_opens_with_the_key_that_signed_it() -> None:
    opened = open_note(SIGNED, verifiers(ANN))
    assert opened.text == TEXT
    assert [signature.verifier.name for signature in opened.verified] == ["ann.example"]
    assert opened.verified[0].time_s is None
    assert opened.unknown == ()


@given(note_texts, names, st.binary(min_size=32, max_size=32))
def test_any_text_and_name_are_signed_and_opened(text: bytes, name: str, seed: bytes) -> None:
    signer = Ed25519Signer.from_seed(name, seed)
    note = sign_note(text, [signer, BOB])
    opened = open_note(note, verifiers(signer))
    assert opened.text == text
    assert [one.name for one in opened.unknown] == ["bob.example/log"]
    assert parse_note(note).signatures[0].name == name


def test_the_last_blank_line_ends_the_text() -> None:
    inner = sign_note(TEXT, [BOB])
    outer = sign_note(inner, [ANN])
    assert open_note(outer, verifiers(ANN)).text == inner
    assert open_note(open_note(outer, verifiers(ANN)).text, verifiers(BOB)).text == TEXT


def test_a_text_can_be_one_empty_line() -> None:
    assert open_note(sign_note(b"\n", [ANN]), verifiers(ANN)).text == b"\n"


def test_signatures_of_unknown_keys_are_ignored() -> None:
    note = sign_note(TEXT, [BOB, ANN])
    opened = open_note(note, verifiers(ANN))
    assert [one.name for one in opened.unknown] == ["bob.example/log"]
    garbled = note.replace(BOB.line(TEXT), NoteSignature(BOB.name, BOB.key_id, b"?").line())
    assert open_note(garbled, verifiers(ANN)).text == TEXT


def test_a_known_name_with_another_id_is_an_unknown_key() -> None:
    other = Ed25519Signer.from_seed(ANN.name, b"o" * 32)
    opened = open_note(sign_note(TEXT, [other, ANN]), verifiers(ANN))
    assert [one.key_id for one in opened.unknown] == [other.key_id]


def test_a_known_id_under_another_name_is_an_unknown_key() -> None:
    line = NoteSignature("eve.example", ANN.key_id, ANN.sign(TEXT)).line()
    opened = open_note(TEXT + b"\n" + line + LINE, verifiers(ANN))
    assert [one.name for one in opened.unknown] == ["eve.example"]


@pytest.mark.parametrize("first", [True, False])
def test_a_bad_signature_of_a_known_key_refuses_the_note(first: bool) -> None:
    bad = NoteSignature(ANN.name, ANN.key_id, bytes(64)).line()
    lines = bad + BOB.line(TEXT) if first else BOB.line(TEXT) + bad
    with pytest.raises(InvalidSignature, match=r"ann\.example"):
        open_note(TEXT + b"\n" + lines, verifiers(ANN, BOB))


def test_a_key_that_signs_well_and_badly_refuses_the_note() -> None:
    bad = NoteSignature(ANN.name, ANN.key_id, bytes(64)).line()
    with pytest.raises(InvalidSignature):
        open_note(SIGNED + bad, verifiers(ANN))


@pytest.mark.parametrize("length", [1, 63, 65, 2420])
def test_a_signature_of_another_length_refuses_the_note(length: int) -> None:
    note = TEXT + b"\n" + NoteSignature(ANN.name, ANN.key_id, bytes(length)).line()
    with pytest.raises(InvalidSignature):
        open_note(note, verifiers(ANN))


def test_a_key_that_signs_twice_counts_once() -> None:
    opened = open_note(SIGNED + LINE, verifiers(ANN))
    assert len(opened.verified) == 1
    assert opened.unknown == ()


def test_a_note_without_a_known_signature_names_its_signers() -> None:
    with pytest.raises(UnsignedNote, match=r"signed by 'ann\.example' \([0-9a-f]{8}\); known 'bob"):
        open_note(SIGNED, verifiers(BOB))
    with pytest.raises(UnsignedNote, match="known none"):
        open_note(SIGNED, [])


def test_a_message_about_many_keys_stays_short() -> None:
    many = [Ed25519Signer.from_seed(f"{n}.example", bytes([n]) * 32) for n in range(90)]
    assert len(refusal(sign_note(TEXT, many))) < 500


def test_keys_with_equal_names_and_ids_are_refused() -> None:
    one, two = ANN.verifier(), Ed25519Signer.from_seed(ANN.name, b"z" * 32).verifier()
    two.key_id = one.key_id
    assert "share the id" in refusal(SIGNED, [one, two])
    assert open_note(SIGNED, [one, ANN.verifier()]).text == TEXT  # the same key twice is accepted


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a blank line"),
        (TEXT, "em dash"),
        (b"text\n" + LINE, "a blank line"),
        (b"text\n\n", "at least one signature"),
        (SIGNED[:-1], "end in a newline"),
        (SIGNED + b"\n", "at least one signature"),
        (SIGNED + b" ", "end in a newline"),
        (SIGNED + b"text\n", "em dash"),
        (SIGNED.replace(b"line one", b"line\tone"), "control character"),
        (SIGNED.replace(b"\n", b"\r\n"), "control character"),
        (SIGNED.replace(b"line one", b"line\x00one"), "control character"),
        (SIGNED.replace(b"line one", b"line \xff one"), "UTF-8"),
        (SIGNED.replace(b"line one", b"line \xed\xa0\x80 one"), "UTF-8"),
        (SIGNED.replace("— ".encode(), b"- "), "em dash"),
        (SIGNED.replace("— ".encode(), "—\N{NO-BREAK SPACE}".encode()), "em dash"),
        (SIGNED.replace("— ".encode(), "—  ".encode()), "key name"),
        (SIGNED.replace(b"ann.example", b""), "key name"),
        (SIGNED.replace(b"ann.example", b"ann+example"), "key name"),
        (SIGNED.replace(b"ann.example", "ann\N{EM SPACE}example".encode()), "key name"),
        (SIGNED.replace(b"ann.example", "ann\N{NEXT LINE}example".encode()), "key name"),
        (SIGNED.replace(b"ann.example ", b"ann.example"), "separated by single spaces"),
        (SIGNED.replace(b"ann.example ", b"ann.example  "), "not base64"),
        (TEXT + "\n— ann.example \n".encode(), "is cut short"),
        (TEXT + "\n— ann.example AAAAAA==\n".encode(), "is cut short"),
        (TEXT + "\n— ann.example AAAAAAB=\n".encode(), "canonical"),
        (TEXT + "\n— ann.example AAAAAAA\n".encode(), "not base64"),
        (TEXT + "\n— ann.example AAAA_AA=\n".encode(), "not base64"),
        (TEXT + "\n— ann.example AAAAAAA= \n".encode(), "not base64"),
        (TEXT + "\n— ann.example AAAAAAA=AAAA\n".encode(), "not base64"),
    ],
)
def test_malformed_notes_are_refused(data: bytes, message: str) -> None:
    assert message in refusal(data)


@pytest.mark.parametrize("control", [byte for byte in range(32) if byte != 10])
def test_no_control_character_but_the_newline(control: int) -> None:
    text = b"a" + bytes([control]) + b"b\n"
    assert "control character" in refusal(text + b"\n" + ANN.line(text))
    with pytest.raises(NoteError, match="control character"):
        sign_note(text, [ANN])


def test_delete_and_other_characters_are_allowed_in_a_text() -> None:
    text = "\x7f \x80 — \N{EM SPACE}\n".encode()
    assert open_note(sign_note(text, [ANN]), verifiers(ANN)).text == text


@pytest.mark.parametrize("text", [b"", b"no newline", b"\xff\n", b"a\rb\n"])
def test_a_text_no_note_can_contain_is_not_signed(text: bytes) -> None:
    with pytest.raises(NoteError):
        sign_note(text, [ANN])


def test_the_limit_of_signatures() -> None:
    key = Ed25519Key(b"k" * 32)
    many = [Ed25519Signer(f"{n}.example", key) for n in range(SIGNATURES_MAX + 1)]
    full = sign_note(TEXT, many[:SIGNATURES_MAX])
    assert len(open_note(full, verifiers(*many)).verified) == SIGNATURES_MAX >= 16
    with pytest.raises(NoteError, match="1 to 100"):
        sign_note(TEXT, many)
    with pytest.raises(NoteError, match="1 to 100"):
        sign_note(TEXT, [])
    assert "at most 100" in refusal(full + many[-1].line(TEXT), verifiers(*many))
    with pytest.raises(NoteError, match="at most 100"):
        add_signatures(full, [many[-1].signature(TEXT)])


def test_the_limit_of_bytes() -> None:
    room = NOTE_BYTES_MAX - len(LINE) - 1
    text = b"x" * (room - 1) + b"\n"
    full = sign_note(text, [ANN])
    assert len(full) == NOTE_BYTES_MAX
    assert open_note(full, verifiers(ANN)).text == text
    with pytest.raises(NoteError, match="at most 1000000 bytes"):
        sign_note(b"x" + text, [ANN])
    assert "at most 1000000" in refusal(b"x" + full)
    with pytest.raises(NoteError, match="at most 1000000"):
        add_signatures(full, [BOB.signature(text)])


def test_signatures_are_appended_once() -> None:
    both = add_signatures(SIGNED, [BOB.signature(TEXT), BOB.signature(TEXT), ANN.signature(TEXT)])
    assert both == sign_note(TEXT, [ANN, BOB])
    assert add_signatures(both, []) == both
    with pytest.raises(NoteError):
        add_signatures(b"no note", [BOB.signature(TEXT)])


def test_lone_signature_lines() -> None:
    found = parse_signatures(LINE + BOB.line(TEXT))
    assert [one.name for one in found] == [ANN.name, BOB.name]
    for lines in (b"", b"\n", LINE[:-1], LINE + b"\n", b"\xff\n", LINE * (SIGNATURES_MAX + 1)):
        with pytest.raises(NoteError):
            parse_signatures(lines)


@pytest.mark.parametrize("name", ["", " ", "a b", "a+b", "a\u2003b", "a\nb", "a\x00b", "a\ud800b"])
def test_invalid_key_names(name: str) -> None:
    with pytest.raises(NoteError):
        Ed25519Signer.from_seed(name, b"a" * 32)
    with pytest.raises(NoteError):
        NoteSignature(name, bytes(4), b"blob").line()


def test_a_seed_or_public_key_of_another_length_is_refused() -> None:
    for length in (0, 31, 33, 64):
        with pytest.raises(NoteError, match="32 bytes"):
            Ed25519Signer.from_seed("a", bytes(length))
        with pytest.raises(NoteError, match="32 bytes"):
            type(ANN.verifier())("a", bytes(length))


def test_one_key_signs_under_many_names() -> None:
    key = Ed25519Key(b"k" * 32)
    signers = [Ed25519Signer(f"log.example/{n}", key) for n in range(5)]
    assert len({signer.key_id for signer in signers}) == 5
    for signer in signers:
        assert open_note(sign_note(TEXT, [signer]), verifiers(*signers)).text == TEXT


def test_no_private_key_shows_in_a_repr() -> None:
    seed = b"do-not-show-this-seed-to-anybody"
    key = Ed25519Key(seed)
    for shown in (key, Ed25519Signer("a", key), CosignatureSigner("a", key)):
        assert "do-not-show" not in repr(shown)
        assert seed.hex() not in repr(shown)


signature_lines = st.builds(
    lambda name, blob: NoteSignature(name, blob[:4], blob[4:]).line(),
    names,
    st.binary(min_size=5, max_size=80),
)
nearly_notes = st.builds(
    lambda text, lines, end: text + b"\n" + b"".join(lines) + end,
    note_texts,
    st.lists(signature_lines | st.just(LINE), max_size=4),
    st.binary(max_size=3),
)


@given(st.binary() | texts.map(str.encode) | nearly_notes)
def test_arbitrary_bytes_raise_nothing_but_a_note_error(data: bytes) -> None:
    raises_only(NoteError, partial(parse_note, data))
    raises_only(NoteError, partial(parse_signatures, data))
    raises_only(NoteError, partial(open_note, data, verifiers(ANN, BOB)))


@given(nearly_notes)
def test_a_parsed_note_is_written_back_unchanged(data: bytes) -> None:
    try:
        note = parse_note(data)
    except NoteError:
        return
    lines = b"".join(one.line() for one in note.signatures)
    assert note.text + b"\n" + lines == data
