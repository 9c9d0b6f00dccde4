"""What ranks were about to send is on disk when a collective ends them, and is compared afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from traincheck.events import Call, Context, Process, StepEnd
from traincheck.invariant import Evidence, Invariant
from traincheck.last_words import SUFFIX, LastWords, judged
from traincheck.precondition import ALWAYS
from traincheck.vocabulary import COLLECTIVE

EVIDENCE = Evidence(examples=10, steps=10, runs=1, programs=1, confidence=0.99)
SUBJECT: dict[str, Any] = {"call": COLLECTIVE, "argument": "numel", "how": "same on ranks", "other": ""}
SIZES = Invariant("APIArg", SUBJECT, ALWAYS, "Sizes are equal.", EVIDENCE)


def begun(seq: int, numel: int, name: str = "all_to_all_single") -> Call:
    args = {"numel": numel, "group": (0, 1), "op": None, "dtype": "float32"}
    return Call(seq, -1, -1, f"{COLLECTIVE}{name}", f"torch.distributed.{name}", "", Context(stage="train"), args)


def words(folder: Path, rank: int, sizes: list[list[int]]) -> None:
    """The sizes of each step; the last step is not completed."""
    last_words = LastWords(folder, Process(rank, 2, pid=100 + rank))
    for step, found in enumerate(sizes):
        for place, numel in enumerate(found):
            last_words.begun(begun(100 * step + place, numel))
        if step < len(sizes) - 1:
            last_words.ended(StepEnd(100 * step + 99, step))


def test_a_mismatch_in_the_step_that_was_not_completed_is_found(tmp_path: Path) -> None:
    words(tmp_path, 0, [[4, 4], [4, 4], [4, 6]])
    words(tmp_path, 1, [[4, 4], [4, 4], [4, 8]])

    (finding,) = judged(tmp_path, [SIZES]).findings

    assert 2 == finding.step
    assert "call 2: 6 on rank 0, 8 on rank 1" in finding.message


def test_ranks_that_agree_as_far_as_they_came_are_clean(tmp_path: Path) -> None:
    words(tmp_path, 0, [[4, 4], [4, 5]])
    words(tmp_path, 1, [[4, 4], [4]])

    result = judged(tmp_path, [SIZES])

    assert ((), 1) == (result.findings, len(result.held))


def test_only_the_last_two_steps_are_kept(tmp_path: Path) -> None:
    words(tmp_path, 0, [[4]] * 50)

    (path,) = tmp_path.glob(f"*{SUFFIX}")
    assert 4 == len(path.read_text().splitlines())


def test_a_line_that_the_end_of_the_process_cut_off_costs_no_more_than_itself(tmp_path: Path) -> None:
    words(tmp_path, 0, [[4, 4], [4, 6]])
    words(tmp_path, 1, [[4, 4], [4, 8, 9]])
    (path,) = tmp_path.glob(f"1-*{SUFFIX}")
    path.write_bytes(path.read_bytes()[:-20])

    assert [1] == [finding.step for finding in judged(tmp_path, [SIZES]).findings]


def test_what_is_not_of_ours_is_no_word(tmp_path: Path) -> None:
    (tmp_path / f"0-1{SUFFIX}").write_text("hello")
    (tmp_path / f"1-2{SUFFIX}").write_bytes(b"\xff\xfe")

    assert () == judged(tmp_path, [SIZES]).findings
