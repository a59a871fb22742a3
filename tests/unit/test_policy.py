"""Trust policies: the specification's example, and its rules in turn."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import TreeHead
from ledger.errors import CheckpointError, InvalidSignature, TrustPolicyError, UnsignedNote
from ledger.merkle import EMPTY_ROOT
from ledger.note import CosignatureSigner, Ed25519Signer, MlDsaSigner, add_signatures, sign_note
from ledger.policy import DEFINITIONS_MAX, POLICY_BYTES_MAX, Policy, parse_policy

ORIGIN = "log.example/anchors"
LOG = Ed25519Signer.from_seed(ORIGIN, bytes(32))
NAMES = ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
KEYS = {
    name: CosignatureSigner.from_seed(f"{name}.example", bytes([n + 1]) * 32)
    for n, name in enumerate(NAMES)
}
WITNESSES = "".join(f"witness {name} {key.vkey()}\n" for name, key in KEYS.items())
EXAMPLE = f"""\
# The example of tlog-policy.
log {LOG.vkey()}

{WITNESSES}
group X-witnesses 2 X1 X2 X3
\tgroup  Y-witnesses\tany Y1 Y2 Y3 \n
group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
CHECKPOINT = TreeHead(ORIGIN, 0, EMPTY_ROOT, ())
NOTE = sign_note(CHECKPOINT.text(), [LOG])


def policy_of(text: str) -> Policy:
    return parse_policy(text.encode())


def refusal(text: str | bytes) -> str:
    with pytest.raises(TrustPolicyError) as caught:
        parse_policy(text.encode() if isinstance(text, str) else text)
    return str(caught.value)


def cosigned(*names: str) -> bytes:
    text = CHECKPOINT.text()
    return add_signatures(NOTE, [KEYS[name].signature(text, 1_700_000_000) for name in names])


def test_the_example_asks_for_two_of_x_and_one_of_y() -> None:
    policy = policy_of(EXAMPLE)
    for count in range(len(NAMES) + 1):
        for names in combinations(NAMES, count):
            x = sum(name.startswith("X") for name in names)
            assert policy.satisfied_by(names) == (x >= 2 and count - x >= 1), names


def test_unknown_names_do_not_count_as_witnesses() -> None:
    policy = policy_of(EXAMPLE)
    assert not policy.satisfied_by(["X-witnesses", "Y-witnesses", "X-and-Y", "Z"])


def test_urls_are_optional_and_kept() -> None:
    policy = policy_of(
        f"log {LOG.vkey()} https://log.example/\n"
        f"witness w {KEYS['X1'].vkey()} https://w.example/prefix\nquorum w\n"
    )
    assert policy.logs[0].url == "https://log.example/"
    assert policy.witnesses[0].url == "https://w.example/prefix"
    assert policy.satisfied_by(["w"])
    assert not policy.satisfied_by([])


def test_a_quorum_of_none_asks_for_nothing() -> None:
    policy = policy_of("quorum none\n")
    assert policy.satisfied_by([])
    assert not policy.logs
    assert not policy.witnesses


def test_a_checkpoint_with_its_cosigners() -> None:
    policy = policy_of(EXAMPLE)
    opened = policy.open(cosigned("X1", "Y3"))
    assert opened.checkpoint == CHECKPOINT
    assert opened.witnesses == {"X1", "Y3"}
    assert not opened.quorum
    assert policy.open(cosigned("X1", "X3", "Y1")).quorum


def test_post_quantum_witnesses_and_logs() -> None:
    log, witness = MlDsaSigner.from_seed(ORIGIN, bytes(32)), MlDsaSigner.from_seed("w", b"w" * 32)
    policy = policy_of(f"log {log.vkey()}\nwitness w {witness.vkey()}\nquorum w\n")
    assert policy.open(sign_note(CHECKPOINT.text(), [log, witness], 1_700_000_000)).quorum


def test_a_checkpoint_of_a_log_that_is_not_listed() -> None:
    stranger = Ed25519Signer.from_seed("other.example", bytes(32))
    note = sign_note(TreeHead("other.example", 0, EMPTY_ROOT, ()).text(), [stranger])
    policy = policy_of(EXAMPLE)
    with pytest.raises(CheckpointError, match="does not list"):
        policy.open(note)
    assert policy.open(note, [stranger.verifier()]).witnesses == frozenset()


def test_the_keys_given_are_those_of_the_origin() -> None:
    other = Ed25519Signer.from_seed("other.example", bytes(32))
    note = sign_note(CHECKPOINT.text(), [other])
    with pytest.raises(CheckpointError, match=r"to 'other\.example'"):
        policy_of("quorum none\n").open(note, [other.verifier()])
    own = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    both = [other.verifier(), own.verifier()]
    assert policy_of("quorum none\n").open(sign_note(CHECKPOINT.text(), [own]), both).quorum


def test_a_checkpoint_that_only_witnesses_signed() -> None:
    text = CHECKPOINT.text()
    with pytest.raises(CheckpointError, match="no key of the log"):
        policy_of(EXAMPLE).open(sign_note(text, [KEYS["X1"]], 1))
    stranger = Ed25519Signer.from_seed(ORIGIN, b"s" * 32)
    with pytest.raises(UnsignedNote):
        policy_of(EXAMPLE).open(sign_note(text, [stranger]))


def test_a_forged_cosignature_refuses_the_checkpoint() -> None:
    note = cosigned("X1", "X2", "Y1").replace(b"\n0\n", b"\n1\n", 1)
    with pytest.raises(InvalidSignature):
        policy_of(EXAMPLE).open(note)


def test_two_cosignatures_by_one_witness_count_once() -> None:
    text = CHECKPOINT.text()
    twice = [KEYS["X1"].signature(text, time_s) for time_s in (1, 2)]
    opened = policy_of(EXAMPLE).open(add_signatures(cosigned("Y1"), twice))
    assert opened.witnesses == {"X1", "Y1"}
    assert not opened.quorum


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must end in a newline"),
        ("quorum none", "must end in a newline"),
        ("\n", "no quorum line"),
        ("quorum none\nquorum none\n", "line 2: .*a second quorum line"),
        ("quorum X1\n", "line 1: no line above defines 'X1'"),
        ("quorum\n", "the line must be"),
        ("frobnicate x\n", "the line must be"),
        ("QUORUM none\n", "the line must be"),
        ("log\n", "the line must be"),
        ("log a b c\n", "the line must be"),
        ("log nonsense\n", "line 1: "),
        ("quorum none\r\n", "line 1: .*control"),
        ("\n\x00\n", "line 2: .*control"),
        ("\x7f\n", "control"),
    ],
)
def test_lines_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(TrustPolicyError, match=reason):
        policy_of(text)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("group g 0 X1 X2", "from 1 to 2"),
        ("group g 3 X1 X2", "from 1 to 2"),
        ("group g 01 X1 X2", "from 1 to 2"),
        ("group g +1 X1 X2", "from 1 to 2"),
        ("group g ² X1 X2", "from 1 to 2"),
        ("group g most X1 X2", "from 1 to 2"),
        ("group g all", "the line must be"),
        ("group g all none", "no line above defines 'none'"),
        ("group g all g", "no line above defines 'g'"),
        ("group g all X1 X1", "member of a group already"),
        ("group none all X1", "is taken"),
        ("group X1 all X2", "is taken"),
        ("group g all X1\ngroup h all X1", "member of a group already"),
        ("group g all X1\ngroup g all X2", "is taken"),
        (f"witness X1 {CosignatureSigner.from_seed('w', b'w' * 32).vkey()}", "is taken"),
        (f"witness none {CosignatureSigner.from_seed('w', b'w' * 32).vkey()}", "is taken"),
        (f"witness w {Ed25519Signer.from_seed('w', b'w' * 32).vkey()}", "0x04 or 0x06"),
        (f"witness w {CosignatureSigner.from_seed('w', bytes([1]) * 32).vkey()}", "already"),
        (f"log {Ed25519Signer.from_seed('other', bytes(32)).vkey()}", "already"),
    ],
)
def test_definitions_that_are_refused(line: str, reason: str) -> None:
    assert reason in refusal(f"log {LOG.vkey()}\n{WITNESSES}{line}\nquorum none\n")


def test_a_quorum_line_can_precede_unrelated_definitions() -> None:
    assert policy_of(f"quorum none\n{WITNESSES}").quorum == "none"


def test_names_are_octets() -> None:
    kelvin, other = KEYS["X1"].vkey(), KEYS["X2"].vkey()
    data = f"witness K {kelvin}\n".encode() + b"witness \xe2\x84\xaa " + other.encode()
    policy = parse_policy(data + b"\nquorum \xe2\x84\xaa\n")
    assert policy.satisfied_by(["\u212a"])
    assert not policy.satisfied_by(["K"])
    broken = parse_policy(b"witness \xff " + other.encode() + b"\nquorum \xff\n")
    assert broken.satisfied_by([broken.witnesses[0].name])


def test_bounds() -> None:
    assert "bytes" in refusal(b"#" * POLICY_BYTES_MAX + b"\n")
    lines = [
        f"log {Ed25519Signer.from_seed(f'l{n}', n.to_bytes(32, 'big')).vkey()}\n"
        for n in range(DEFINITIONS_MAX + 1)
    ]
    policy_of("".join([*lines[1:], "quorum none\n"]))
    assert f"line {DEFINITIONS_MAX + 1}" in refusal("".join([*lines, "quorum none\n"]))


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        parse_policy(data + b"\n")
    except TrustPolicyError:
        return


KEYWORDS = ["log", "witness", "group", "quorum", "none", "all", "any", "1", "2", "#", "\t"]
WORDS = st.sampled_from([*KEYWORDS, "X1", "X2", LOG.vkey(), KEYS["X1"].vkey(), KEYS["X2"].vkey()])


@given(st.lists(st.lists(WORDS, max_size=6).map(" ".join), max_size=12).map("\n".join))
def test_lines_of_policy_keywords_raise_nothing_else(text: str) -> None:
    try:
        parse_policy(text.encode() + b"\n").satisfied_by(["X1"])
    except TrustPolicyError:
        return
