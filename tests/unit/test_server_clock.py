"""The clock of a server process: its memory across restarts, and when it lets entries be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ledger.core.clock import SECOND_US, ClockReading
from ledger.errors import ClockUnsteady
from server.settings import Settings
from server.trails.clock import SETTLED_US, ServerClock
from server.trails.clock_note import NAME, ClockNote, NoteFile, boot_name

START_US = 1_780_000_000 * SECOND_US
DAY_US = 86_400 * SECOND_US


class Clocks:
    def __init__(self) -> None:
        self.off_us = 0
        self.steady_us = 500 * SECOND_US

    def __call__(self) -> ClockReading:
        return ClockReading(START_US + self.steady_us + self.off_us, self.steady_us)


class Answers:
    """A database whose clock is off by a settable time."""

    def __init__(self, clocks: Clocks, off_us: int = 0) -> None:
        self.clocks = clocks
        self.off_us = off_us

    async def fetch(self, query: str, *_: object) -> list[Any]:
        assert "clock_timestamp" in query
        return [(START_US + self.clocks.steady_us + self.off_us,)]


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    data_dir.mkdir(parents=True)
    return Settings(data_dir=data_dir, clock_hold_seconds=20)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def made(settings: Settings, clocks: Clocks, *, reports: bool = True) -> ServerClock:
    return ServerClock(settings, reports=reports, read=clocks)


def passing(clock: ServerClock, clocks: Clocks, seconds: int) -> None:
    for _ in range(seconds):
        clocks.steady_us += SECOND_US
        clock.poll()


def wrong(clock: ServerClock) -> bool:
    clock.poll()
    return clock.wall.leap is not None


def test_a_start_while_the_clock_is_wrong_is_noticed(settings: Settings, clocks: Clocks) -> None:
    made(settings, clocks).poll()
    clocks.off_us = 400 * DAY_US
    again = made(settings, clocks)
    assert wrong(again)
    with pytest.raises(ClockUnsteady):
        again.moment()
    clocks.off_us = 0
    assert not wrong(again)


def test_only_one_process_keeps_the_note_and_a_wrong_time_is_never_noted(
    settings: Settings, clocks: Clocks
) -> None:
    first, second = NoteFile(settings.data_dir), NoteFile(settings.data_dir)
    assert first.keep()
    assert not second.keep()
    first.close()
    assert second.keep()
    second.close()
    clock = made(settings, clocks)
    clock.poll()
    noted = NoteFile(settings.data_dir).read()
    clocks.off_us = DAY_US
    passing(clock, clocks, 10)
    assert NoteFile(settings.data_dir).read() == noted


def test_the_other_processes_believe_what_the_keeper_believes(
    settings: Settings, clocks: Clocks
) -> None:
    keeper = made(settings, clocks)
    keeper.poll()
    other = made(settings, clocks, reports=False)
    clocks.off_us = DAY_US
    for _ in range(25):
        clocks.steady_us += SECOND_US
        keeper.poll()
    assert not wrong(keeper)
    started = made(settings, clocks, reports=False)  # in the middle of the leap
    assert not wrong(started)
    assert not wrong(other)


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 512, b'{"boot":1}', b"[]"])
def test_a_damaged_note_says_nothing(settings: Settings, clocks: Clocks, content: bytes) -> None:
    (settings.data_dir / NAME).write_bytes(content)
    clock = made(settings, clocks)
    assert not wrong(clock)
    note = NoteFile(settings.data_dir).read()
    assert note is not None
    assert note.boot == boot_name()


def test_after_another_boot_time_may_have_passed_but_not_gone_back(
    settings: Settings, clocks: Clocks
) -> None:
    wall_us = clocks().wall_us
    for noted_us, is_wrong in ((wall_us - 30 * DAY_US, False), (wall_us + DAY_US, True)):
        file = NoteFile(settings.data_dir)
        assert file.keep()
        file.write(ClockNote("another boot", 0, 0, noted_us))
        file.close()
        clock = made(settings, clocks, reports=False)
        assert wrong(clock) is is_wrong


def test_an_unwritable_folder_is_no_obstacle(clocks: Clocks, data_dir: Path) -> None:
    clock = made(Settings(data_dir=data_dir / "missing"), clocks)
    assert not wrong(clock)
    clocks.off_us = DAY_US
    assert wrong(clock)


def test_for_a_day_after_a_leap_nothing_irreversible_is_done(
    settings: Settings, clocks: Clocks
) -> None:
    clock = made(settings, clocks)
    clock.settled()
    clocks.off_us = DAY_US
    passing(clock, clocks, 5)
    clocks.off_us = 0
    clock.settled()  # the clock came back, so the difference was not believed
    clocks.off_us = DAY_US
    passing(clock, clocks, 25)
    clock.moment()
    for one in (clock, made(settings, clocks, reports=False)):  # a restart loses nothing
        with pytest.raises(ClockUnsteady, match="less than a day ago"):
            one.settled()
    clocks.steady_us += SETTLED_US
    clock.settled()


async def test_a_difference_to_the_database_is_believed_once(
    settings: Settings, clocks: Clocks
) -> None:
    clock, database = made(settings, clocks), Answers(clocks, 3_600 * SECOND_US)
    await clock.tick(database)
    assert wrong(clock)
    for _ in range(25):
        clocks.steady_us += SECOND_US
        await clock.tick(database)
    assert not wrong(clock)
    again = made(settings, clocks, reports=False)
    await again.tick(database)
    assert not wrong(again)
    moved = made(settings, clocks, reports=False)
    await moved.tick(Answers(clocks))  # a database whose clock is right
    assert not wrong(moved)
