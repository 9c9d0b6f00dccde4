"""What inference takes, ours and the peer's, on longer and longer traces; by one process and by two; and a check."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from long_trace import lengthen
from results import publish, table
from runs import Run, check, infer, infer_by_peer, peer_torch, train_recorded, train_recorded_by_peer


def trace_of(scratch: Path, steps: int, record_up_to: int) -> Path:
    """A trace of so many steps: recorded, or a recorded one whose steps are repeated."""
    trace = scratch / f"ours{steps}"
    if trace.exists():
        return trace
    if steps <= record_up_to:
        train_recorded(scratch, steps, trace)
    else:
        lengthen(trace_of(scratch, record_up_to, record_up_to), trace, steps=steps)
    return trace


def measure_peer(scratch: Path, steps: int) -> tuple[Run, int]:
    """The costs of the peer's inference and the number of its invariants."""
    trace, invariants = scratch / f"peer{steps}", scratch / f"peer{steps}.json"
    train_recorded_by_peer(scratch, steps, trace)
    return infer_by_peer(scratch, trace, invariants), len(invariants.read_text(encoding="utf-8").splitlines())


def by_steps(scratch: Path, args: argparse.Namespace) -> str:
    """Ours and the peer's, on traces of more and more steps."""
    rows: list[list[object]] = []
    for steps in args.steps:
        trace, invariants = trace_of(scratch, steps, args.record_up_to), scratch / "invariants.json"
        ours = [infer(scratch, [trace], invariants) for _ in range(args.rounds)]
        cpu_s = _median(ours, lambda run: run.cpu_s)
        costs: list[object] = [cpu_s, _median(ours, lambda run: run.peak_mb), count_ours(invariants)]
        if steps <= args.peer_up_to:
            peers, peer_found = measure_peer(scratch, steps)
            costs += [peers.cpu_s, peers.peak_mb, peer_found, f"{peers.cpu_s / cpu_s:.0f}x"]
        rows.append([f"{steps:,} steps", *costs, *[None] * (7 - len(costs))])
        print("measured:", *rows[-1], file=sys.stderr, flush=True)
    columns = ["", "CPU s", "peak MB", "invariants", "peer: CPU s", "peer: peak MB", "peer: invariants", "ratio"]
    return (
        f"Traces of `programs/mnist_cnn.py`, full collection; of more than {args.record_up_to} steps: recorded ones, "
        "repeated. One process, CPU time of user and system, the start of the command included; ours is the median of "
        f"{args.rounds} runs, the peer ran once, on at most {args.peer_up_to} steps, with torch {peer_torch()}.\n\n"
        + table(columns, rows)
    )


def by_cores(scratch: Path, args: argparse.Namespace) -> str:
    """So many events, by one process and by two: in one trace, which they share by hypotheses, and in two."""
    rows: list[list[object]] = []
    for count in (1, 2):
        traces = [scratch / f"long{number}of{count}" for number in range(count)]
        for trace in traces:
            recorded = scratch / f"{trace.name}-recorded"
            train_recorded(scratch, args.record_up_to, recorded)
            lengthen(recorded, trace, events=args.events // count)
        rows += _by_cores(scratch, traces, args)
    return (
        f"{args.events:,} events, recorded steps repeated, in one trace and in two; medians of {args.rounds} "
        "interleaved runs. One process and two gave the same evidence, byte for byte. Two processes share traces as "
        "long as there are as many; of a single one each reads everything and judges its share of the hypotheses.\n\n"
        + table(["", "wall s", "CPU s", "peak MB", "faster (least-most)"], rows)
    )


def _by_cores(scratch: Path, traces: Sequence[Path], args: argparse.Namespace) -> list[list[object]]:
    runs: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(args.rounds):
        for jobs, done in runs.items():
            done.append(infer(scratch, traces, scratch / f"by{jobs}.json", jobs))
            print("measured:", len(traces), jobs, done[-1].wall_s, done[-1].cpu_s, file=sys.stderr, flush=True)
    if (scratch / "by1.evidence.json.gz").read_bytes() != (scratch / "by2.evidence.json.gz").read_bytes():
        raise SystemExit("two processes gave other evidence than one")
    ratios = sorted(one.wall_s / two.wall_s for one, two in zip(runs[1], runs[2], strict=True))
    faster = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    return [
        [
            f"{len(traces)} trace{'s' if len(traces) > 1 else ''}, {jobs} process{'es' if jobs > 1 else ''}",
            _median(done, lambda run: run.wall_s),
            _median(done, lambda run: run.cpu_s),
            _median(done, lambda run: run.peak_mb),
            faster if jobs > 1 else None,
        ]
        for jobs, done in runs.items()
    ]


def of_checks(scratch: Path, args: argparse.Namespace) -> str:
    """Checks of a finished trace."""
    trace, invariants = trace_of(scratch, args.checked_steps, args.record_up_to), scratch / "invariants.json"
    infer(scratch, [trace_of(scratch, args.record_up_to, args.record_up_to)], invariants)
    rows: list[list[object]] = []
    for label, against in (("the zoo", ("--zoo", "pytorch")), ("its own invariants", ("-i", invariants))):
        done = [check(scratch, trace, *against) for _ in range(args.rounds)]
        rows.append([label, *(_median(done, cost) for cost in (lambda run: run.wall_s, lambda run: run.peak_mb))])
    return (
        f"`traincheck-check` of a finished trace of {args.checked_steps:,} steps, medians of {args.rounds} runs.\n\n"
        + table(["against", "wall s", "peak MB"], rows)
    )


def count_ours(invariants: Path) -> int:
    return len(json.loads(invariants.read_text(encoding="utf-8"))["invariants"])


def _median(runs: Sequence[Run], cost: Callable[[Run], float]) -> float:
    return statistics.median(map(cost, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 40, 400, 4000])
    parser.add_argument("--record-up-to", type=int, default=40, help="longer traces repeat the steps of one so long")
    parser.add_argument("--peer-up-to", type=int, default=40, help="the peer is not run on more steps than this")
    parser.add_argument("--events", type=int, default=1_000_000, help="length of the trace for one and two processes")
    parser.add_argument("--checked-steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        parts = [part(Path(name), args) for part in (by_steps, by_cores, of_checks)]
    publish("infer", "Inference", "\n\n".join(parts), write=args.write)


if __name__ == "__main__":
    main()
