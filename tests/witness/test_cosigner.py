"""The answers of a witness, for each rule of C2SP tlog-witness."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.checkpoint import TreeHead, open_checkpoint
from ledger.merkle import EMPTY_ROOT
from ledger.note import (
    CosignatureSigner,
    Ed25519Signer,
    MlDsaSigner,
    add_signatures,
    open_note,
    parse_signatures,
    sign_note,
)
from ledger.policy import parse_policy
from ledger.submission import Submission
from server.witness.cosigner import Cosigner, CosignerAnswer
from server.witness.heads import WitnessHeads
from tests.support.small_log import SmallLog

LOG = SmallLog()
OTHER = SmallLog("other.example/log")
KEYS = (
    CosignatureSigner.from_seed("witness.example/w1", b"1" * 32),
    MlDsaSigner.from_seed("witness.example/w1", b"2" * 32),
)
VERIFIERS = [key.verifier() for key in KEYS]
NOW_S = 1_800_000_000


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return self.now_s


def cosigner_of(directory: Path, clock: Callable[[], int]) -> tuple[Cosigner, WitnessHeads]:
    WitnessHeads.create(directory / "heads.db")
    heads = WitnessHeads(directory / "heads.db")
    logs = parse_policy(f"{LOG.policy}{OTHER.policy}quorum none\n".encode())
    return Cosigner(logs, KEYS, heads, clock), heads


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cosigner(tmp_path: Path, clock: Clock) -> Iterator[Cosigner]:
    made, heads = cosigner_of(tmp_path, clock)
    yield made
    heads.close()


def times(verdict: CosignerAnswer, text: bytes) -> list[int | None]:
    """Verify the cosignatures of an answer; returns their times."""
    assert verdict.status == 200, verdict.body
    note = add_signatures(sign_note(text, LOG.signers), parse_signatures(verdict.body))
    return [found.time_s for found in open_note(note, VERIFIERS).verified]


def add(cosigner: Cosigner, old: int, new: int, branch: int = 0) -> CosignerAnswer:
    return cosigner.add_checkpoint(LOG.body(old, new, branch))


def test_a_log_that_grows_is_cosigned_with_every_key(cosigner: Cosigner) -> None:
    for old, new in ((0, 7), (7, 8), (8, 256), (256, 300)):
        assert times(add(cosigner, old, new), LOG.text(new)) == [NOW_S, NOW_S]


def test_the_same_checkpoint_again_is_cosigned_again(cosigner: Cosigner, clock: Clock) -> None:
    add(cosigner, 0, 7)
    clock.now_s += 5
    assert times(add(cosigner, 7, 7), LOG.text(7)) == [NOW_S + 5] * 2


def test_from_the_empty_tree(cosigner: Cosigner) -> None:
    assert times(add(cosigner, 0, 0), LOG.text(0)) == [NOW_S, NOW_S]
    assert times(add(cosigner, 0, 3), LOG.text(3)) == [NOW_S, NOW_S]


def test_a_clock_set_back_revokes_no_cosignature(cosigner: Cosigner, clock: Clock) -> None:
    add(cosigner, 0, 7)
    clock.now_s = 0
    assert times(add(cosigner, 7, 8), LOG.text(8)) == [NOW_S, NOW_S]


@pytest.mark.parametrize("old", [0, 6, 8])
def test_409_has_the_size_to_go_on_from(cosigner: Cosigner, old: int) -> None:
    add(cosigner, 0, 7)
    verdict = add(cosigner, old, 9)
    assert (verdict.status, verdict.body, verdict.media_type) == (409, b"7\n", "text/x.tlog.size")


def test_409_for_a_log_that_was_never_cosigned(cosigner: Cosigner) -> None:
    assert add(cosigner, 5, 7).body == b"0\n"


def test_409_for_a_log_that_was_rolled_back(cosigner: Cosigner) -> None:
    add(cosigner, 0, 100)
    assert add(cosigner, 0, 90).body == b"100\n"
    assert add(cosigner, 90, 90).body == b"100\n"
    assert add(cosigner, 100, 90).status == 400


def test_422_for_another_history(cosigner: Cosigner) -> None:
    add(cosigner, 0, 7)
    assert add(cosigner, 7, 9, branch=1).status == 422
    assert add(cosigner, 7, 7, branch=1).status == 422
    assert times(add(cosigner, 7, 9), LOG.text(9)) == [NOW_S, NOW_S]


def test_422_for_proofs_that_do_not_hold(cosigner: Cosigner) -> None:
    add(cosigner, 0, 7)
    proof = LOG.proof(7, 100)
    for wrong in (proof[:-1], [*proof, bytes(32)], proof[::-1], []):
        body = Submission(7, tuple(wrong), LOG.note(100)).body()
        assert cosigner.add_checkpoint(body).status == 422
    surplus = Submission(7, (bytes(32),), LOG.note(7)).body()
    assert cosigner.add_checkpoint(surplus).status == 422


def test_422_for_a_proof_from_nothing(cosigner: Cosigner) -> None:
    body = Submission(0, (bytes(32),), LOG.note(7)).body()
    assert cosigner.add_checkpoint(body).status == 422


def test_422_for_an_empty_tree_with_a_root(cosigner: Cosigner) -> None:
    assert bytes(32) != EMPTY_ROOT
    # The log's other key, ML-DSA-44, refuses to sign it.
    note = sign_note(TreeHead(LOG.origin, 0, bytes(32), ()).text(), LOG.signers[:1])
    assert cosigner.add_checkpoint(Submission(0, (), note).body()).status == 422


def test_400_for_an_old_size_above_the_new(cosigner: Cosigner) -> None:
    add(cosigner, 0, 9)
    assert cosigner.add_checkpoint(Submission(9, (), LOG.note(7)).body()).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old x\n\n" + LOG.note(1),
        b"old 0\n\n",
        b"old 0\n\nno note",
        b"old 0\n\n" + sign_note(b"no checkpoint\n", LOG.signers[:1]),
    ],
    ids=["empty", "cut", "no size", "no note", "unsigned", "no checkpoint"],
)
def test_400_for_malformed_submissions(cosigner: Cosigner, body: bytes) -> None:
    assert cosigner.add_checkpoint(body).status == 400


def test_404_for_an_unknown_log(cosigner: Cosigner) -> None:
    assert cosigner.add_checkpoint(SmallLog("stranger.example").body(0, 7)).status == 404


def test_403_for_other_peoples_signatures(cosigner: Cosigner) -> None:
    text = LOG.text(7)
    stranger = Ed25519Signer.from_seed(LOG.origin, b"s" * 32)
    for signers in ([stranger], OTHER.signers, KEYS):
        body = Submission(0, (), sign_note(text, signers, 1)).body()
        assert cosigner.add_checkpoint(body).status == 403


def test_403_for_a_known_key_that_did_not_sign_this(cosigner: Cosigner) -> None:
    forged = sign_note(LOG.text(7), LOG.signers[:1])
    moved = forged.replace(LOG.text(7), LOG.text(8))
    assert cosigner.add_checkpoint(Submission(0, (), moved).body()).status == 403
    beside_a_good_one = add_signatures(
        sign_note(LOG.text(8), LOG.signers[1:], 1), parse_signatures(forged.split(b"\n\n")[1])
    )
    assert cosigner.add_checkpoint(Submission(0, (), beside_a_good_one).body()).status == 403


def test_one_known_key_suffices_and_unknown_keys_are_ignored(cosigner: Cosigner) -> None:
    stranger = Ed25519Signer.from_seed("stranger", b"s" * 32)
    note = sign_note(LOG.text(7), [stranger, LOG.signers[1]], 1)
    verdict = cosigner.add_checkpoint(Submission(0, (), note).body())
    assert times(verdict, LOG.text(7)) == [NOW_S, NOW_S]
    assert b"stranger" not in cosigner.latest(LOG.origin).body


def test_logs_do_not_disturb_each_other(cosigner: Cosigner) -> None:
    add(cosigner, 0, 7)
    assert cosigner.add_checkpoint(OTHER.body(0, 3)).status == 200
    assert add(cosigner, 7, 8).status == 200
    assert cosigner.add_checkpoint(OTHER.body(3, 9)).status == 200


def test_a_refusal_changes_nothing(cosigner: Cosigner) -> None:
    add(cosigner, 0, 7)
    before = cosigner.latest(LOG.origin)
    for old, new, branch in ((0, 9, 0), (7, 9, 1), (7, 5, 0), (9, 12, 0)):
        assert add(cosigner, old, new, branch).status != 200
        assert cosigner.latest(LOG.origin) == before


def test_monitors_get_the_checkpoint_with_all_signatures(cosigner: Cosigner) -> None:
    assert cosigner.latest(LOG.origin).status == 404
    add(cosigner, 0, 7)
    verdict = cosigner.latest(LOG.origin)
    log_keys = [signer.verifier() for signer in LOG.signers]
    opened = open_checkpoint(verdict.body, LOG.origin, log_keys, VERIFIERS)
    assert opened.checkpoint.size == 7
    assert {found.verifier for found in opened.verified} == {*log_keys, *VERIFIERS}


@given(
    moves=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 1)), max_size=12
    )
)
def test_no_order_of_submissions_makes_two_histories(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, int]]
) -> None:
    """For all submissions: the cosigned trees are on one history, and never get smaller."""
    cosigner, heads = cosigner_of(tmp_path_factory.mktemp("w"), Clock())
    size = 0
    history: set[int] = {0, 1}
    for old, new, branch in moves:
        body = LOG.body(min(old, new), new, branch)
        if cosigner.add_checkpoint(body).status == 200:
            assert new >= size
            size = new
            if new > 5:  # the branches differ from here on
                history &= {branch}
            assert history
    heads.close()
