"""However the work is shared out, the evidence is that of one process which reads everything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.script import NAMES, Script, clean_run
from traincheck import evidence, gathering
from traincheck.events import Process
from traincheck.evidence import MAX_CONTEXTS, Gatherer, Share, Source, Summary, merged
from traincheck.gathering import Processes, Reading, Task, gather, survey
from traincheck.relations import Example
from traincheck.relations.cadence import Cadence
from traincheck.trace import Manifest, Writer, write_manifest

FAULTS = ({}, {"zero_grad": False}, {"moves": NAMES[:1]}, {"training": False}, {"backwards": 2}, {"scheduler_steps": 0})


def script_of(faults: Sequence[int], seed: int = 0) -> Script:
    """A run whose steps have the faults of these numbers."""
    script = Script(seed=seed)
    for fault in faults:
        script.step(**FAULTS[fault])  # type: ignore[arg-type]
    return script


def summary(script: Script, share: Share) -> Summary:
    gatherer = Gatherer(Source("run", "train.py"), share)
    for window in script.windows():
        gatherer.add(window)
    return gatherer.summary()


def write(directory: Path, script: Script) -> Path:
    write_manifest(directory, Manifest.for_command(["python", "train.py"]))
    writer = Writer(directory, script.process)
    for record in script.records:
        writer.add(record)
    writer.close()
    return directory


@given(st.lists(st.integers(0, len(FAULTS) - 1), min_size=3, max_size=12), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_the_shares_of_a_run_are_the_whole(faults: list[int], of: int) -> None:
    script = script_of(faults)

    shares = [summary(script, Share(number, of)) for number in range(of)]
    assert merged([summary(script, Share())]) == merged(shares)
    assert sum(len(share.cases) for share in shares) == len(merged(shares).cases)


@dataclass(frozen=True)
class Counting:
    """An engine that says it has many workers, and writes down what it was given to do."""

    workers: int
    tasks: list[Task]

    def summaries(self, tasks: Sequence[Task]) -> Iterable[Summary]:
        self.tasks.extend(tasks)
        return map(Task.summary, tasks)


def test_a_long_trace_is_shared_out_and_short_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WORTH_A_PROCESS_BYTES", 1)
    long = survey(str(write(tmp_path / "long", clean_run(200))))
    short = [survey(str(write(tmp_path / f"short{seed}", clean_run(6, seed)))) for seed in range(2)]
    engine = Counting(3, [])
    summaries = list(gather([*short, long], engine))

    assert [1, 1, 3] == [sum(task.place == reading.place for task in engine.tasks) for reading in [*short, long]]
    assert [Task(reading.place, Share()).summary() for reading in [*short, long]] == summaries


def test_what_is_small_is_done_by_one_process(tmp_path: Path) -> None:
    engine = Counting(8, [])
    list(gather([survey(str(write(tmp_path / "t", clean_run(60))))], engine))

    assert 1 == len(engine.tasks)


def test_real_processes_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WORTH_A_PROCESS_BYTES", 1)
    readings = [survey(str(write(tmp_path / str(seed), script_of([0, 1, 2, 3, 4, 5], seed)))) for seed in range(5)]
    told: list[tuple[int, int]] = []
    parallel = list(gather(readings[:1], Processes(2), lambda *progress: told.append(progress)))

    assert [(1, 2), (2, 2)] == told
    assert list(gather(readings[:1], Processes(1))) == parallel
    for count in (2, 5):
        assert list(gather(readings[:count], Processes(1))) == list(gather(readings[:count], Processes(2)))


def test_ranks_are_compared_in_every_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "WORTH_A_PROCESS_BYTES", 1)
    directory = tmp_path / "ranks"
    for rank in range(2):
        script = Script(process=Process(rank, 2, 100 + rank))
        for step in range(8):
            script.step(moves=NAMES[:1] if rank and step > 5 else None)
        write(directory, script)
    reading = survey(str(directory))
    (shared,) = gather([reading], Counting(4, []))

    across_ranks = {
        subject for relation, subject in shared.cases if relation == "Consistent" and subject.across == "ranks"
    }
    assert 3 == len(across_ranks)
    assert any(shared.cases["Consistent", subject].places for subject in across_ranks)
    assert [shared] == list(gather([reading], Processes(1)))


def test_an_empty_reading_does_not_break_the_shares() -> None:
    nothing = Reading("nowhere", Source("nowhere", ""), 0)

    assert 1 == gathering._num_shares(nothing, [nothing], 8)


@pytest.mark.parametrize(("sizes", "shares"), [((100, 101), [1, 1]), ((100, 300), [1, 2]), ((100,), [2])])
def test_a_trace_is_read_twice_only_where_that_saves_time(sizes: tuple[int, ...], shares: list[int]) -> None:
    megabyte = 1_000_000
    readings = [Reading(str(size), Source(str(size), ""), size * megabyte) for size in sizes]

    assert shares == [gathering._num_shares(reading, readings, 2) for reading in readings]


@given(st.permutations(range(4)))
@settings(max_examples=6, deadline=None)
def test_what_varies_too_much_is_given_up_whatever_the_order(order: list[int]) -> None:
    parts = [_varied(range(start, start + MAX_CONTEXTS // 3)) for start in range(0, 4000, 1000)]
    total = merged(parts[place] for place in order)

    (case,) = total.cases.values()
    assert case.given_up
    assert not case.contexts
    assert merged([merged([parts[0], parts[1]]), merged([parts[2], parts[3]])]) == total
    assert not any(case.given_up for part in parts for case in part.cases.values())


def _varied(numbers: range) -> Summary:
    case = evidence.Case(runs=1, programs=frozenset({"train.py"}))
    case.contexts = {(("number", number),): evidence.Tally(1, 0, 1, 0, 1) for number in numbers}
    return Summary({("Cadence", "any"): case}, ())


def test_a_hypothesis_with_too_many_contexts_is_dropped_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1_000_000))

    def varied(*_: object) -> Iterable[Example]:
        return [Example(True, (("number", next(numbers)),)) for _ in range(100)]

    monkeypatch.setattr(Cadence, "examples", varied)
    cases = [case for (relation, _), case in summary(clean_run(20), Share()).cases.items() if relation == "Cadence"]

    assert cases
    assert all(case.given_up and not case.contexts for case in cases)


def test_the_first_failures_are_kept_whatever_the_order() -> None:
    places = [evidence.Place("run", step, 0, "none") for step in (7, 3, 9, 1, 5)]
    case = evidence.Case()
    for place in places:
        case.fails_at(place)

    assert [1, 3, 5] == [place.step for place in case.places]
