"""One program, one verdict: offline as live, selectively recorded as fully, and the same for every seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.script import Script, side_by_side
from traincheck.events import Process
from traincheck.evidence import Gatherer, Source
from traincheck.invariant_file import load_invariants
from traincheck.plan import Plan
from traincheck.relations import RELATIONS, Memory, by_name
from traincheck.trace import open_trace
from traincheck.values import Value
from traincheck.window import Window
from traincheck.zoo import load_pack, pack_names

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RECIPE = ROOT / "recipes" / "pytorch" / "digits_cnn.py"
BUGS = ROOT / "tests" / "bugs"


def run(command: str, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [str(BIN / command), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, timeout=300)


@dataclass(frozen=True)
class Verdict:
    """What a check said, as JSON."""

    status: int
    document: dict[str, Any]

    def ids(self, state: str) -> set[str]:
        """The invariants in one of the four states."""
        return {item["id"] for item in self.document[state]}

    @property
    def told(self) -> list[tuple[str, int, list[str]]]:
        """Code, first step and invariants of each finding."""
        return [
            (finding["code"], finding["step"], sorted(item["id"] for item in finding["violations"]))
            for finding in self.document["findings"]
        ]


def check(*words: object) -> Verdict:
    done = run("traincheck-check", "--format", "json", *words)
    return Verdict(done.returncode, json.loads(done.stdout))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trace of the digits CNN, and what was inferred from it."""
    folder = tmp_path_factory.mktemp("reference")
    collected = run("traincheck-collect", "-o", folder / "trace", "--", sys.executable, RECIPE, "--seed", 1)
    assert 0 == collected.returncode, collected.stderr
    inferred = run("traincheck-infer", folder / "trace", "-o", folder / "invariants.json")
    assert 0 == inferred.returncode, inferred.stderr
    return folder


def test_a_run_exercises_and_holds_all_that_was_inferred_from_it(reference: Path) -> None:
    invariants = load_invariants(reference / "invariants.json")
    verdict = check(reference / "trace", "-i", reference / "invariants.json")

    assert 0 == verdict.status
    assert {invariant.id for invariant in invariants} == verdict.ids("held")
    assert 20 < len(invariants) < 150


def test_another_seed_is_clean_live_and_offline_alike(reference: Path, tmp_path: Path) -> None:
    program = (sys.executable, RECIPE, "--seed", 7)
    live = check("-i", reference / "invariants.json", "--", *program)
    run("traincheck-collect", "-o", tmp_path / "trace", "--", *program)
    offline = check(tmp_path / "trace", "-i", reference / "invariants.json")

    assert (0, []) == (live.status, live.told)
    assert (0, []) == (offline.status, offline.told)
    assert offline.ids("held") == live.ids("held")


def test_a_missing_zero_grad_is_one_finding_live_and_offline_alike(reference: Path, tmp_path: Path) -> None:
    program = (sys.executable, BUGS / "P13_missing_zero_grad" / "buggy.py")
    live = check("-i", reference / "invariants.json", "--", *program)
    run("traincheck-collect", "-o", tmp_path / "trace", "--", *program)
    offline = check(tmp_path / "trace", "-i", reference / "invariants.json")

    assert [1] == [step for _, step, _ in live.told]
    assert 1 == live.status == offline.status
    assert offline.told == live.told
    assert offline.ids("not_exercised") == live.ids("not_exercised")


def _examples(windows: list[Window], relation: Any, subject: Any) -> list[Any]:
    memory = Memory()
    return [
        (
            window.step,
            [(e.held, e.context, e.names, e.seen, e.count) for e in relation.examples(subject, window, memory)],
        )
        for window in windows
    ]


def _kept(window: Window, plan: Plan) -> Window:
    """The window as a selective recording would have it."""
    calls = [call for call in window.calls if plan.wants_call(call.role or call.api)]
    keys = {call.seq: call.role or call.api for call in window.calls}
    looks = [look for look in window.snapshots if plan.wants_snapshot(keys.get(look.call, ""), look.point, look.kind)]
    kept = Window(window.step, window.process, [*calls, *looks], window.variables, follows=window.follows)
    return kept


def test_recording_only_what_a_relation_needs_gives_the_same_examples(reference: Path) -> None:
    windows = list(open_trace(reference / "trace").windows())
    gatherer = Gatherer(Source("run", "program"))
    for window in windows:
        gatherer.add(window)
    judged = 0
    for name, subject in gatherer.summary().cases:
        relation = next(relation for relation in RELATIONS if relation.name == name)
        plan = Plan.for_needs([relation.needs(subject)])
        selective = [_kept(window, plan) for window in windows]
        assert _examples(windows, relation, subject) == _examples(selective, relation, subject), (name, subject)
        judged += 1
    assert 50 < judged


def _without(window: Window, words: frozenset[str]) -> Window:
    def left(values: Mapping[str, Value]) -> dict[str, Value]:
        return {name: value for name, value in values.items() if name not in words}

    calls = [
        replace(call, args=left(call.args), out=left(call.out))
        for call in window.calls
        if words.isdisjoint((call.role or call.api, call.context.stage))
    ]
    records = [*calls, *window.snapshots]
    fewer = Window(window.step, window.process, records, window.variables, follows=window.follows)
    assert words.isdisjoint(fewer.words)
    return fewer


def _across_two_ranks() -> list[Window]:
    ranks = [Script(Process(rank, 2)) for rank in range(2)]
    for _ in range(4):
        for script in ranks:
            script.step()
    return side_by_side(ranks)


def test_a_window_without_its_triggers_has_no_example_and_leaves_no_memory(reference: Path) -> None:
    windows = list(open_trace(reference / "trace").windows())
    gatherer = Gatherer(Source("run", "program"))
    for window in windows:
        gatherer.add(window)
    subjects = {(by_name(name), subject) for name, subject in gatherer.summary().cases}
    for invariant in (one for name in pack_names() for one in load_pack(name).invariants):
        relation = by_name(invariant.relation)
        subjects.add((relation, relation.subject_type(**invariant.subject)))
    triggered = [(relation, subject, words) for relation, subject in subjects if (words := relation.triggers(subject))]
    for run in (windows, _across_two_ranks()):
        for relation, subject, words in triggered:
            memory = Memory()
            for window in run:
                list(relation.examples(subject, window, memory))
                before = deepcopy(memory)
                assert [] == list(relation.examples(subject, _without(window, words), memory)), (relation.name, subject)
                assert before == memory, (relation.name, subject)
    assert 100 < len(triggered)
