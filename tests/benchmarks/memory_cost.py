"""What watching and collecting add to the peak memory of a large model's training: resident memory of whole runs."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from results import publish, table
from runs import OUR_BIN, run

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "programs" / "gpt.py"
UNDER_WATCH = HERE / "under_watch.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        env = {"BENCH_GPT": "wide", "BENCH_STEPS": str(args.steps), "OMP_NUM_THREADS": "1"}
        collect: list[str | Path] = [OUR_BIN / "traincheck-collect", "-o", scratch / "trace", "--"]
        commands: dict[str, list[str | Path]] = {
            "plain": [sys.executable, PROGRAM],
            "watch closed before": [sys.executable, UNDER_WATCH, "off", PROGRAM],
            "watch, budget": [sys.executable, UNDER_WATCH, "0.02", PROGRAM],
            "watch, every step": [sys.executable, UNDER_WATCH, "every", PROGRAM],
            "full collection": [*collect, sys.executable, PROGRAM],
        }
        peaks: dict[str, list[float]] = {label: [] for label in commands}
        for _ in range(args.rounds):
            shutil.rmtree(scratch / "trace", ignore_errors=True)
            for label, command in commands.items():
                peaks[label].append(run(command, where=scratch, env=env).peak_mb)
    plain = statistics.median(peaks["plain"])
    rows = [[label, median := statistics.median(found), f"{median / plain:.3f}"] for label, found in peaks.items()]
    body = (
        f"Peak resident memory of {args.steps} steps of `programs/gpt.py` with 58 M parameters, medians of "
        f"{args.rounds} interleaved runs; the code of TrainCheck and of what it imports is in it.\n\n"
        + table(["", "peak MB", "ratio"], rows)
    )
    publish("memory", "Memory", body, write=args.write)


if __name__ == "__main__":
    main()
