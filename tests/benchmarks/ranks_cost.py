"""What comparing two ranks adds to a step: steps with and without it, side by side in the same run."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from results import publish, table
from runs import OUR_BIN, run

PROGRAM = Path(__file__).resolve().parent / "programs" / "ddp_steps.py"
BLOCK = 8
"""As in the program: so many steps are compared, then so many are not."""
WARM_UP = 2 * BLOCK


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=430, help="of a process; steps of about 100 ms")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()

    plain: list[float] = []
    compared: list[float] = []
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(args.rounds):
            env = {"BENCH_STEPS": str(args.steps), "BENCH_BATCH": str(args.batch), "OMP_NUM_THREADS": "1"}
            command = [OUR_BIN / "torchrun", "--standalone", "--nproc-per-node", "2", PROGRAM]
            durations = run(command, where=Path(name), env=env).step_durations_ms()
            kinds = {True: compared, False: plain}
            found = {kind: _of_kind(durations, kind) for kind in kinds}
            ratios.append(statistics.median(found[True]) / statistics.median(found[False]))
            for kind, into in kinds.items():
                into.append(statistics.median(found[kind]))
    rows: list[list[object]] = [
        ["not compared", statistics.median(plain), None],
        ["compared across ranks", statistics.median(compared), statistics.median(ratios)],
    ]
    body = (
        f"{args.steps} steps of `programs/ddp_steps.py` (3 M parameters, batch {args.batch} a process, two gloo "
        f"processes of one thread), {BLOCK} steps with the invariants across ranks, {BLOCK} without, and so on; "
        f"medians of {args.rounds} runs; the ratio lies between {min(ratios):.3f} and {max(ratios):.3f}.\n\n"
    ) + table(["", "ms a step", "ratio"], rows)
    publish("ranks", "Comparing ranks", body, write=args.write)


def _of_kind(durations: list[float], compared: bool) -> list[float]:
    """Without the first step of a block, in which the last step of the block before is judged."""
    timed = list(enumerate(durations))[WARM_UP:]
    return [ms for step, ms in timed if (step // BLOCK % 2 == 0) is compared and step % BLOCK]


if __name__ == "__main__":
    main()
