"""What checking adds to a step while the program runs: plain, and the zoo on every step, runs interleaved."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from results import publish, table
from runs import Run, train_checked, train_plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=3, help="first steps of each run that are left out")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    plain, checked = [], []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(args.rounds):
            plain.append(train_plain(Path(name), args.steps))
            checked.append(train_checked(Path(name), args.steps))

    def step_ms(run: Run) -> float:
        return statistics.median(run.step_durations_ms()[args.warm_up :])

    pairs = [(step_ms(before), step_ms(after)) for before, after in zip(plain, checked, strict=True)]
    ratios = sorted(after / before for before, after in pairs)
    rows: list[list[object]] = [
        ["plain", statistics.median(before for before, _ in pairs), None],
        ["zoo, every step", statistics.median(after for _, after in pairs), statistics.median(ratios)],
    ]
    body = (
        f"{args.steps} steps of `programs/mnist_cnn.py` (1.2 M parameters, batch 64, one thread) under "
        f"`traincheck-check --zoo pytorch`, medians of {args.rounds} interleaved runs; the ratio lies between "
        f"{ratios[0]:.2f} and {ratios[-1]:.2f}.\n\n" + table(["", "ms a step", "ratio"], rows)
    )
    publish("check", "Live checking", body, write=args.write)


if __name__ == "__main__":
    main()
