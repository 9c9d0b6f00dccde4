"""The ranks of one run are read in lock-step; other processes stay apart."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from traincheck.events import Call, Context, Process, Record, StepEnd
from traincheck.trace import open_trace
from traincheck.vocabulary import RANKS_PART
from traincheck.window import Window

WriteTrace = Callable[..., Path]


@pytest.fixture(autouse=True)
def _ticking_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts written one after the other start one after the other."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "time_ns", lambda: next(ticks))


def steps(*numbers: int, recorded: bool = True) -> Iterator[Record]:
    for seq, number in enumerate(numbers):
        yield Call(2 * seq, 2 * seq, -1, "forward", "f", "Net", Context())
        yield StepEnd(2 * seq + 1, number, recorded)


def rest(seq: int) -> list[Record]:
    return [Call(seq, seq, -1, "checkpoint.save", "save", "Net", Context())]


def rank(number: int, pid: int = 0, world_size: int = 2) -> Process:
    return Process(rank=number, world_size=world_size, pid=pid)


def places(directory: Path) -> list[tuple[int, int, list[int]]]:
    """Step, rank and ranks of the peers of each window, in order."""
    return [place(window) for window in open_trace(directory).windows()]


def place(window: Window) -> tuple[int, int, list[int]]:
    return (window.step, window.process.rank, [peer.process.rank for peer in window.peers])


def test_one_process_has_no_peers(write_trace: WriteTrace) -> None:
    directory = write_trace((Process(), steps(0, 1)))

    assert [(0, 0, []), (1, 0, [])] == places(directory)


def test_two_ranks_meet_in_every_step_on_the_lowest_rank(write_trace: WriteTrace) -> None:
    directory = write_trace((rank(1), steps(0, 1)), (rank(0), steps(0, 1)))

    assert [(0, 0, [0, 1]), (0, 1, []), (1, 0, [0, 1]), (1, 1, [])] == places(directory)


def test_the_window_of_the_lowest_rank_is_its_own_first_peer(write_trace: WriteTrace) -> None:
    lowest = next(open_trace(write_trace((rank(0), steps(0)), (rank(1), steps(0)))).windows())

    assert lowest is lowest.peers[0]


def test_ranks_that_end_early_stop_taking_part(write_trace: WriteTrace) -> None:
    three = [rank(number, world_size=3) for number in range(3)]
    directory = write_trace((three[0], steps(0)), (three[1], steps(0, 1, 2)), (three[2], steps(0, 1)))

    assert [(0, 0, [0, 1, 2]), (0, 1, []), (0, 2, []), (1, 1, [1, 2]), (1, 2, []), (2, 1, [])] == places(directory)


def test_a_step_that_one_rank_left_out_is_not_compared(write_trace: WriteTrace) -> None:
    partly = [*steps(0), *steps(1, recorded=False), *steps(2)]
    directory = write_trace((rank(0), partly), (rank(1), steps(0, 1, 2)))

    assert [(0, 0, [0, 1]), (0, 1, []), (1, 1, []), (2, 0, [0, 1]), (2, 1, [])] == places(directory)


def test_a_rank_that_ran_out_of_its_inputs_is_not_compared_any_more(write_trace: WriteTrace) -> None:
    parting = [*steps(0), Call(2, 3, -1, RANKS_PART, "Join.__exit__", "", Context()), StepEnd(4, 1), *steps(2)]
    directory = write_trace((rank(0), parting), (rank(1), steps(0, 1, 2)))

    assert [[0, 1]] == [peers for _, _, peers in places(directory) if peers]


def test_what_follows_the_last_step_is_compared_on_all_ranks(write_trace: WriteTrace) -> None:
    directory = write_trace((rank(0), [*steps(0), *rest(9)]), (rank(1), [*steps(0), *rest(9)]))

    assert [(0, 0, [0, 1]), (0, 1, []), (1, 0, [0, 1]), (1, 1, [])] == places(directory)


def test_a_rank_that_ended_within_a_step_is_compared_with_one_that_completed_it(write_trace: WriteTrace) -> None:
    directory = write_trace((rank(0), [*steps(0), *rest(9)]), (rank(1), steps(0, 1)))

    assert [(0, 0, [0, 1]), (0, 1, []), (1, 0, [0, 1]), (1, 1, [])] == places(directory)


def test_processes_of_world_size_one_are_never_peers(write_trace: WriteTrace) -> None:
    directory = write_trace((Process(pid=1), steps(0)), (Process(pid=2), steps(0)))

    assert [(0, 0, []), (0, 0, [])] == places(directory)


def test_restarted_ranks_are_a_run_of_their_own(write_trace: WriteTrace) -> None:
    parts = [(rank(number, pid), steps(0)) for pid in (1, 2) for number in (0, 1)]
    trace = open_trace(write_trace(*parts))

    assert [[(0, 1), (1, 1)], [(0, 2), (1, 2)]] == [
        [(part.process.rank, part.process.pid) for part in run] for run in trace.runs
    ]
    assert [0, 1, 0, 1] == [window.process.rank for window in trace.windows()]


def test_a_child_that_inherits_its_rank_is_not_a_peer(write_trace: WriteTrace) -> None:
    directory = write_trace((rank(0, 1), steps(0)), (rank(0, 2), steps(0)), (rank(1, 3), steps(0)))

    assert [(0, 0, [0, 1]), (0, 1, []), (0, 0, [])] == places(directory)


def test_ranks_of_different_launches_are_not_peers(write_trace: WriteTrace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    directory = write_trace((rank(0, 1), steps(0)))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    write_trace((rank(0, 2), steps(0)), (rank(1, 3), steps(0)))

    assert [(0, 0, []), (0, 0, [0, 1]), (0, 1, [])] == places(directory)


def test_ranks_of_different_world_sizes_are_not_peers(write_trace: WriteTrace) -> None:
    directory = write_trace((rank(0, world_size=2), steps(0)), (rank(1, world_size=4), steps(0)))

    assert [(0, 0, []), (0, 1, [])] == places(directory)
