"""What inference takes, ours and the peer's, on longer and longer traces; and ours on a million events."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from long_trace import lengthen
from results import publish, table
from runs import Run, infer, infer_by_peer, peer_torch, train_recorded, train_recorded_by_peer


def measure_ours(scratch: Path, steps: int) -> tuple[Run, int]:
    """The costs of inference and the number of invariants."""
    trace, invariants = scratch / f"ours{steps}", scratch / f"ours{steps}.json"
    train_recorded(scratch, steps, trace)
    return infer(scratch, trace, invariants), count_ours(invariants)


def measure_peer(scratch: Path, steps: int) -> tuple[Run, int]:
    """The costs of the peer's inference and the number of its invariants."""
    trace, invariants = scratch / f"peer{steps}", scratch / f"peer{steps}.json"
    train_recorded_by_peer(scratch, steps, trace)
    return infer_by_peer(scratch, trace, invariants), len(invariants.read_text(encoding="utf-8").splitlines())


def measure_long(scratch: Path, trace: Path, events: int) -> tuple[Run, int, int]:
    """The costs of our inference on a trace of so many events, the number of invariants, and that of steps."""
    long, invariants = scratch / "long", scratch / "long.json"
    steps = lengthen(trace, long, events)
    return infer(scratch, long, invariants), count_ours(invariants), steps


def count_ours(invariants: Path) -> int:
    return len(json.loads(invariants.read_text(encoding="utf-8"))["invariants"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 40, 160])
    parser.add_argument("--peer-up-to", type=int, default=160, help="the peer is not run on more steps than this")
    parser.add_argument("--events", type=int, default=1_000_000, help="length of the long trace; 0 leaves it out")
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    args = parser.parse_args()

    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for steps in args.steps:
            ours, found = measure_ours(scratch, steps)
            costs: list[object] = [ours.cpu_s, ours.peak_mb, found]
            if steps <= args.peer_up_to:
                peers, peer_found = measure_peer(scratch, steps)
                costs += [peers.cpu_s, peers.peak_mb, peer_found, f"{peers.cpu_s / ours.cpu_s:.0f}x"]
            rows.append([f"{steps} steps", *costs, *[None] * (7 - len(costs))])
            print("measured:", *rows[-1], file=sys.stderr, flush=True)
        if args.events:
            ours, found, steps = measure_long(scratch, scratch / f"ours{args.steps[-1]}", args.events)
            label = f"{args.events:,} events ({steps:,} steps)"
            rows.append([label, ours.cpu_s, ours.peak_mb, found, None, None, None, None])
    columns = ["", "CPU s", "peak MB", "invariants", "peer: CPU s", "peer: peak MB", "peer: invariants", "ratio"]
    body = (
        "Traces of `programs/mnist_cnn.py`, full collection; one process, CPU time of user and system, the start of "
        f"the command included. The long trace repeats recorded steps. The peer runs with torch {peer_torch()}.\n\n"
        + table(columns, rows)
    )
    publish("infer", "Inference", body, write=args.write)


if __name__ == "__main__":
    main()
