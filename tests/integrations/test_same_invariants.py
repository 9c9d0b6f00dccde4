"""One small training through every adapter teaches the same invariants: they speak of roles, not of frameworks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from traincheck.infer import infer
from traincheck.invariant import Invariant

for framework in ("lightning", "accelerate", "transformers"):
    pytest.importorskip(framework)

BIN = Path(sys.executable).parent
PROGRAM = Path(__file__).with_name("programs") / "one_run.py"

FETCHED_AHEAD: Final = frozenset(
    {
        ("APIOutput", "data.next", "size"),
        ("APISequence", "data.next", "forward"),
        ("APISequence", "data.next", "optimizer.step"),
        ("Cadence", "data.next", "optimizer.step"),
    }
)
"""A loader that Accelerate prepared fetches one batch ahead, and has no batch size of its own."""

OWN_ORDER: Final = {
    "lightning": {
        # The gradients are clipped inside of the optimizer's step, from the closure, not before it.
        ("APISequence", "grad.clip", "optimizer.step"),
        ("APISequence", "backward", "grad.clip"),
        # The closure fetches nothing: the batch is always there before the step.
        ("APISequence", "data.next", "optimizer.step"),
        # The backward pass is a part of the step, too: what is there before it says nothing.
        ("EventContain", "optimizer.step", "use:grad"),
        ("APIArg", "optimizer.step", "left_out"),
        # Validation comes before the first step, so that evaluation is there to be compared with from the start.
        ("APIArg", "dropout", "active"),
        ("APIArg", "forward", "training"),
        ("EventContain", "forward", "active:dropout"),
    },
    "accelerate": FETCHED_AHEAD,
    "transformers": FETCHED_AHEAD,
}
"""Where a framework legitimately does things in another order than a plain loop: ``(relation, of what, what)``."""


RATE: Final = ("APIArg", "optimizer.step", "lr")
"""A framework's loop tells the rate of each of its steps itself: it is judged by that."""


def taught(way: str, folder: Path) -> list[Invariant]:
    """What two runs teach, without what speaks of a framework's own loop or of functions of the program."""
    traces = [folder / f"{way}-{seed}" for seed in (1, 2)]
    for seed, trace in enumerate(traces, start=1):
        command = [BIN / "traincheck-collect", "-o", trace, "--", sys.executable, PROGRAM, way, seed]
        subprocess.run([str(part) for part in command], capture_output=True, check=True, timeout=300)
    found = infer([str(trace) for trace in traces]).invariants
    return [one for one in found if not any("trainer." in str(v) or "one_run" in str(v) for v in one.subject.values())]


def topic(invariant: Invariant) -> tuple[str, ...]:
    """The relation, and the first two fields of what it speaks of."""
    return (invariant.relation, *(str(value) for value in list(invariant.subject.values())[:2]))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Invariant]:
    return {one.id: one for one in taught("plain", tmp_path_factory.mktemp("plain"))}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["lightning", "accelerate", "transformers"])
def test_one_training_teaches_the_same_through_every_adapter(
    way: str, plain: dict[str, Invariant], tmp_path: Path
) -> None:
    here = {one.id: one for one in taught(way, tmp_path)}

    differing = [{**plain, **here}[number] for number in plain.keys() ^ here.keys()]
    assert [] == [one.text for one in differing if topic(one) not in OWN_ORDER[way] | {RATE}]
    assert len(plain.keys() & here.keys()) > 40
