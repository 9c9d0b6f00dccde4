"""What TrainCheck adds to the steps of real programs: off, with its budget, on every step, collecting; and the peer."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from results import publish, table
from runs import OUR_BIN, Run, copied, peer_bin, run, size_bytes

HERE = Path(__file__).resolve().parent
UNDER_WATCH = HERE / "under_watch.py"
Measure = Callable[[Run, str], float]
WARM_UP = 3
"""First steps that are left out: they are slow in any run."""
BLOCK = 20
"""So many steps are watched, then so many are not, and so on in one run."""
CLOCKS = {"ms": "wall time", "cpu_ms": "processor time"}


@dataclass(frozen=True)
class Program:
    """One program of ``programs/``, and how it is run."""

    file: str
    env: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1
    tracked: str = "model"
    """What the peer is told to track; empty where the peer is not run."""

    @property
    def path(self) -> Path:
        return HERE / "programs" / self.file

    def command(self, *before: str | Path) -> list[str | Path]:
        """The program as it is started, with ``before`` between the interpreter and its file."""
        launcher: list[str | Path] = [sys.executable]
        if self.processes > 1:
            launcher += ["-m", "torch.distributed.run", "--nproc-per-node", str(self.processes)]
        return [*launcher, *before, self.path]


PROGRAMS = {
    "MLP": Program("mlp.py"),
    "small CNN with batch norm": Program("small_cnn.py"),
    "graph network": Program("graph_network.py"),
    "VAE": Program("vae.py"),
    "CNN of MNIST size": Program("mnist_cnn.py"),
    "small GPT": Program("gpt.py"),
    "medium GPT": Program("gpt.py", {"BENCH_GPT": "medium"}),
    "Transformers Trainer": Program("hf_trainer.py", tracked=""),
    "DDP, 2 processes": Program("ddp.py", processes=2, tracked=""),
}


class Bench:
    """Runs one program in all ways, interleaved, and keeps the step times of each run."""

    def __init__(self, program: Program, scratch: Path, steps: int, short: int) -> None:
        self._program = program
        self._scratch = scratch
        self._steps = steps
        self._short = short
        self.trace_kb = 0.0
        """Kilobytes of trace a step."""

    def _run(self, command: Sequence[str | Path], steps: int, block: int = 0) -> Run:
        env = {**self._program.env, "OMP_NUM_THREADS": "1", "BENCH_STEPS": str(steps), "BENCH_BLOCK": str(block)}
        return run(command, where=self._scratch, env=env)

    def plain(self) -> Run:
        return self._run(self._program.command(), self._steps)

    def off(self) -> Run:
        return self._run(self._program.command(UNDER_WATCH, "off"), self._steps)

    def budget(self) -> Run:
        return self._run(self._program.command(UNDER_WATCH, "0.02"), 2 * self._steps, BLOCK)

    def every(self) -> Run:
        return self._run(self._program.command(UNDER_WATCH, "every"), 8 * BLOCK, BLOCK)

    def full(self) -> Run:
        with tempfile.TemporaryDirectory() as name:
            trace = Path(name) / "trace"
            collect: list[str | Path] = [OUR_BIN / "traincheck-collect", "-o", trace, "--"]
            found = self._run([*collect, *self._program.command()], self._short)
            self.trace_kb = size_bytes(trace) / self._short / 1000
        return found

    def peer(self, *options: str) -> Run:
        """The peer's collection."""
        with tempfile.TemporaryDirectory() as name:
            program = copied(self._program.path, Path(name))
            collect: list[str | Path] = [peer_bin() / "traincheck-collect", "--pyscript", program]
            options = ("--copy-all-files", "--models-to-track", self._program.tracked, *options)
            return self._run([*collect, "--output-dir", Path(name) / "peer", *options], self._short)


def amortised(found: Run, clock: str) -> float:
    """The mean watched step of a run in blocks, as a ratio to those between that are not watched."""
    watched, unwatched = _in_blocks(found, clock, WARM_UP)
    return statistics.fmean(watched) / statistics.fmean(unwatched)


def each_step(found: Run, clock: str) -> float:
    """The same of the median step; the first block of either kind is left out: programs get faster for a while."""
    watched, unwatched = _in_blocks(found, clock, 2 * BLOCK)
    return statistics.median(watched) / statistics.median(unwatched)


def _in_blocks(found: Run, clock: str, warm_up: int) -> tuple[list[float], list[float]]:
    steps = list(enumerate(found.step_durations_ms(clock)))[warm_up:]
    watched = [duration for number, duration in steps if number // BLOCK % 2 == 0]
    return watched, [duration for number, duration in steps if number // BLOCK % 2]


def total(found: Run, clock: str) -> float:
    """All steps together: what a budget is about. Time a step, in ms."""
    return statistics.fmean(found.step_durations_ms(clock))


def typical(found: Run, clock: str, steps: int) -> float:
    """The median of the first so many steps, in ms: later ones may be faster, in a plain run too."""
    return statistics.median(found.step_durations_ms(clock)[WARM_UP:steps])


def ratios(plain: Sequence[Run], others: Sequence[Run], measure: Measure, clock: str) -> str | None:
    """``median (least-most)`` over the rounds; nothing where there were none."""
    pairs = zip(plain, others, strict=False)
    return _told([measure(other, clock) / measure(base, clock) for base, other in pairs])


def _told(found: list[float]) -> str | None:
    return f"{statistics.median(found):.3f} ({min(found):.3f}-{max(found):.3f})" if found else None


def measured(program: Program, args: argparse.Namespace) -> list[object]:
    """One row of the table, without its name."""
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(program, Path(name), args.steps, args.short)
        ways: dict[str, Callable[[], Run]] = {
            "plain": bench.plain,
            "off": bench.off,
            "budget": bench.budget,
            "every": bench.every,
            "full": bench.full,
        }
        if program.tracked and os.environ.get("PEER_PYTHON"):
            ways["peer"] = bench.peer
            ways["peer, 1 in 10"] = lambda: bench.peer("--sampling-interval", "10")
        runs: dict[str, list[Run]] = {way: [] for way in (*ways, "peer", "peer, 1 in 10")}
        for number in range(args.rounds):
            for way, start in ways.items():
                if number < args.peer_rounds or not way.startswith("peer"):
                    runs[way].append(start())
    plain, clock = runs["plain"], args.clock
    median = partial(typical, steps=args.short)
    steps_ms = [median(found, clock) for found in plain]
    full_ms = [median(found, clock) for found in runs["full"]]
    measures: dict[str, Measure] = {"off": total, "peer, 1 in 10": total}
    found = {way: ratios(plain, runs[way], measures.get(way, median), clock) for way in runs}
    found["budget"] = _told([amortised(each, clock) for each in runs["budget"]])
    found["every"] = _told([each_step(each, clock) for each in runs["every"]])
    added = statistics.median(full - base for full, base in zip(full_ms, steps_ms, strict=True))
    before = [statistics.median(steps_ms), found["off"], found["budget"], found["every"], found["full"]]
    return [*before, added, bench.trace_kb, found["peer"], found["peer, 1 in 10"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500, help="of the runs that are compared as a whole")
    parser.add_argument("--short", type=int, default=40, help="steps of the runs whose median step is compared")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-rounds", type=int, default=1, help="of them with the peer, which takes far longer")
    parser.add_argument("--clock", choices=("ms", "cpu_ms"), default="ms", help="cpu_ms: on a machine that is shared")
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--section", default="all programs", help="name of the section of RESULTS.md")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    rows: list[list[object]] = []
    for name in args.programs:
        rows.append([name, *measured(PROGRAMS[name], args)])
        print("measured:", *rows[-1], file=sys.stderr, flush=True)
    columns = ["", "ms a step", "off", "budget 2 %", "every step", "full collection", "ms added", "kB a step"]
    body = (
        f"Ratios of {CLOCKS[args.clock]}, medians (least-most) of {args.rounds} interleaved rounds, one thread a "
        f"process. *Budget* (`traincheck.watch()` as it is, {args.steps} watched steps, their mean) and *every step* "
        f"(`overhead=None`, the median of {3 * BLOCK}) are measured within one run, {BLOCK} steps watched, {BLOCK} "
        "not, and so on: whatever else the machine does falls on both. The others are compared with runs of the plain "
        f"program: *off*, a watch that was opened and closed before the training (mean of {args.steps} steps), and "
        f"*full collection*, `traincheck-collect` (median of {args.short} steps). There is no selective collection: "
        "what is recorded is chosen only when checking. *The peer*: its full collection, as it is and (mean of all "
        f"steps) with one step in ten sampled, {args.peer_rounds} of the rounds; it is run on programs of one process "
        "and one file.\n\n" + table([*columns, "the peer", "the peer, 1 in 10"], rows)
    )
    publish(f"overhead: {args.section}", f"Watching and collecting: {args.section}", body, write=args.write)


if __name__ == "__main__":
    main()
